"""Faults put into real servers: does the right alert reach who is on call, and nothing else?"""
