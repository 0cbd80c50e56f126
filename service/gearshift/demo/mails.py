"""Mails for the demo, written for it: those that `text` was measured with are not ours to give."""

from __future__ import annotations

HAM, SPAM = 0, 1

MAILS: tuple[tuple[str, int], ...] = (
    (
        "Re: patch for the parser\nThanks, that works here. I have applied it to the tree and run"
        " the tests again; the one on quoted names still fails on BSD. Could you have a look?",
        HAM,
    ),
    (
        "[ilug] mounting an old disk\nOn Tue Mary wrote:\n> I cannot mount the second partition.\n"
        "What does dmesg say? It may be that your kernel was built without support for it.",
        HAM,
    ),
    (
        "lunch on thursday\nHi all, shall we meet at noon at the usual place? Tom will be late, he"
        " has the dentist. Let me know if you cannot make it.",
        HAM,
    ),
    (
        "Your weekly digest\nThe build was broken twice this week, both times by the same script."
        " Minutes of the meeting are on the wiki; please add what I have forgotten.",
        HAM,
    ),
    (
        "FREE!!! Claim your prize now\nCONGRATULATIONS! You have been selected to receive $5,000"
        " cash. Click here now to claim, 100% guaranteed, no obligation. To be removed reply.",
        SPAM,
    ),
    (
        "Lose 30 pounds in 30 days\nDoctors hate it! Our all natural formula melts fat while you"
        " sleep. Order today and get a second bottle absolutely FREE. Limited time offer!",
        SPAM,
    ),
    (
        "Mortgage rates as low as 2.9%\nRefinance your home today. Bad credit? No problem! Fill in"
        " the form and save thousands of dollars. This is a one time mailing.",
        SPAM,
    ),
    (
        "CONFIDENTIAL BUSINESS PROPOSAL\nDear Sir, I am the son of the late minister and need your"
        " assistance to transfer the sum of US$25 million. You will receive 20% of the money.",
        SPAM,
    ),
)
"""Subject and text, and what it is."""
