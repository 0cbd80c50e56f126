/* Asks a server for answers, checks each, and prints what came of it as one line of JSON.
 *
 *   client HOST PORT closed CALLERS SECONDS CONNECTIONS KIND
 *   client HOST PORT open PLAN CONNECTIONS KIND...
 *
 * KIND is NAME,REQUEST,EXPECTED,DEADLINE_MS: a file with a ModelInferRequest, a file with the
 * FP32 values of the right answer (or FILE+FILE, any of which is right), and a deadline (0: none). A closed loop keeps CALLERS calls in
 * flight. An open loop sends at the moments of PLAN (lines of "MICROSECONDS KIND-NUMBER", in
 * order), whether answers come or not; latency counts from that moment. CONNECTIONS is for each
 * kind. A call that is not answered at its deadline is cancelled, as stock clients do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "calls.h"

/* Seconds until an answer without a deadline is given up. */
#define PATIENCE 30.0
#define MOST_KINDS 8

static int poller;
static struct kind kinds[MOST_KINDS];
static unsigned kind_count;
static size_t in_flight;
static double end; /* of a closed loop */

static void once(struct call *call) {
    (void)call;
    in_flight--;
}

static void again(struct call *call) {
    if ((call->due = now()) < end)
        call_send(call);
    else
        in_flight--;
}

static double closed(size_t callers, double seconds) {
    struct call *calls = grown(NULL, callers * sizeof *calls);
    memset(calls, 0, callers * sizeof *calls);
    double begun = now();
    end = begun + seconds;
    in_flight = callers;
    for (size_t i = 0; i < callers; i++) {
        calls[i].kind = &kinds[i % kind_count];
        calls[i].done = again;
        calls[i].due = begun;
        call_send(&calls[i]);
    }
    while (in_flight > 0 && now() < end + PATIENCE)
        calls_step(poller, kinds, kind_count, calls, callers, end + PATIENCE);
    for (size_t i = 0; i < callers; i++) {
        if (calls[i].connection != NULL)
            call_expire(&calls[i]);
        free(calls[i].answer);
    }
    double took = now() - begun;
    free(calls);
    return took;
}

static struct call *read_plan(const char *path, size_t *count) {
    FILE *file = fopen(path, "r");
    struct call *calls = NULL;
    size_t room = 0;
    long at;
    unsigned kind;
    *count = 0;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    while (fscanf(file, "%ld %u", &at, &kind) == 2) {
        if (kind >= kind_count) {
            fprintf(stderr, "%s: there is no kind %u\n", path, kind);
            exit(1);
        }
        if (*count == room)
            calls = grown(calls, (room = 2 * room + 1024) * sizeof *calls);
        calls[(*count)++] =
            (struct call){.kind = &kinds[kind], .due = 1e-6 * (double)at, .done = once};
    }
    fclose(file);
    return calls;
}

/* When the oldest call in flight of each kind must be given up; those that are due are. */
static double next_expiry(struct call *calls, size_t sent, size_t *oldest) {
    double next = now() + PATIENCE;
    for (unsigned k = 0; k < kind_count; k++) {
        double patience = kinds[k].deadline > 0 ? kinds[k].deadline : PATIENCE;
        for (; oldest[k] < sent; oldest[k]++) {
            struct call *call = &calls[oldest[k]];
            if (call->kind != &kinds[k] || call->connection == NULL)
                continue;
            if (call->due + patience > now()) {
                next = call->due + patience < next ? call->due + patience : next;
                break;
            }
            call_expire(call);
        }
    }
    return next;
}

static double open_loop(struct call *calls, size_t count, double *lags, double *begun_at) {
    size_t oldest[MOST_KINDS] = {0}, sent = 0;
    /* A moment for what was allocated to be there before the first is due. */
    double begun = *begun_at = now() + 0.05;
    for (size_t i = 0; i < count; i++)
        calls[i].due += begun;
    while (sent < count || in_flight > 0) {
        for (double t = now(); sent < count && calls[sent].due <= t; sent++) {
            in_flight++;
            call_send(&calls[sent]);
            lags[sent] = t - calls[sent].due;
        }
        double wake = next_expiry(calls, sent, oldest);
        if (sent < count && calls[sent].due < wake)
            wake = calls[sent].due;
        calls_step(poller, kinds, kind_count, calls, sent, wake);
    }
    for (size_t i = 0; i < count; i++)
        free(calls[i].answer);
    return now() - begun;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of sorted values, in milliseconds; 0 where there is none. */
static double quantile_ms(const double *sorted, size_t count, double q) {
    return count == 0 ? 0 : 1e3 * sorted[(size_t)(q * (double)(count - 1))];
}

static void report(double begun, double seconds, double *lags, size_t lag_count) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    if (lag_count > 0)
        qsort(lags, lag_count, sizeof *lags, by_size);
    printf("{\"begun\": %.6f, \"seconds\": %.6f, \"client_cpu_s\": %.4f, \"lag_p50_ms\": %.4f, "
           "\"lag_p99_ms\": %.4f, \"kinds\": {",
           begun, seconds, cpu, quantile_ms(lags, lag_count, 0.5), quantile_ms(lags, lag_count, 0.99));
    for (unsigned k = 0; k < kind_count; k++) {
        struct kind *kind = &kinds[k];
        double *sorted = kind->latencies;
        size_t n = kind->latency_count;
        if (n > 0)
            qsort(sorted, n, sizeof *sorted, by_size);
        printf("%s\"%s\": {\"sent\": %zu, \"right\": %zu, \"wrong\": %zu, \"p50_ms\": %.4f, "
               "\"p99_ms\": %.4f, \"in_time\": [",
               k ? ", " : "", kind->name, kind->sent, n, kind->wrong, quantile_ms(sorted, n, 0.5),
               quantile_ms(sorted, n, 0.99));
        for (unsigned i = 0; i < kind->expected_count; i++)
            printf("%s%zu", i ? ", " : "", kind->expected[i].in_time);
        printf("], \"statuses\": {");
        const char *comma = "";
        for (unsigned s = 0; s < STATUSES; s++)
            if (kind->statuses[s] > 0) {
                printf("%s\"%u\": %zu", comma, s, kind->statuses[s]);
                comma = ", ";
            }
        printf("}}");
    }
    printf("}}\n");
}

static void add_kind(char *told, const char *host, const char *port, unsigned connections) {
    char *name = strtok(told, ","), *request = strtok(NULL, ","), *expected = strtok(NULL, ","),
         *deadline = strtok(NULL, ",");
    if (deadline == NULL || kind_count == MOST_KINDS) {
        fprintf(stderr, "a kind is NAME,REQUEST,EXPECTED,DEADLINE_MS, and %d at most\n",
                MOST_KINDS);
        exit(2);
    }
    struct kind *kind = &kinds[kind_count++];
    size_t size;
    unsigned char *body = read_file(request, &size);
    kind->name = name;
    kind->frame = framed(body, size);
    kind->frame_size = FRAME_PREFIX + size;
    free(body);
    for (char *path = strtok(expected, "+"); path != NULL && kind->expected_count < MOST_ANSWERS;
         path = strtok(NULL, "+")) {
        struct expected *answer = &kind->expected[kind->expected_count++];
        answer->values = (float *)read_file(path, &size);
        answer->count = size / sizeof(float);
    }
    kind->deadline = 1e-3 * atof(deadline);
    kind_open(kind, host, port, poller, connections);
}

/* One answer on every connection, without a deadline: what is counted is not the handshake. */
static void warm_up(unsigned connections) {
    double deadlines[MOST_KINDS];
    for (unsigned k = 0; k < kind_count; k++) {
        deadlines[k] = kinds[k].deadline;
        kinds[k].deadline = 0;
    }
    closed((size_t)connections * kind_count, 0);
    for (unsigned k = 0; k < kind_count; k++) {
        kinds[k].deadline = deadlines[k];
        kind_forget(&kinds[k]);
    }
}

int main(int argc, char **argv) {
    bool is_closed = argc == 8 && strcmp(argv[3], "closed") == 0;
    if (!is_closed && (argc < 7 || strcmp(argv[3], "open") != 0)) {
        fprintf(stderr, "usage: client HOST PORT closed CALLERS SECONDS CONNECTIONS KIND\n"
                        "       client HOST PORT open PLAN CONNECTIONS KIND...\n");
        return 2;
    }
    poller = epoll_create1(0);
    int first = is_closed ? 7 : 6;
    unsigned connections = (unsigned)atoi(argv[first - 1]);
    for (int i = first; i < argc; i++)
        add_kind(argv[i], argv[1], argv[2], connections);
    warm_up(connections);
    if (is_closed) {
        double begun = now();
        report(begun, closed((size_t)atoi(argv[4]), atof(argv[5])), NULL, 0);
        return 0;
    }
    size_t count;
    struct call *calls = read_plan(argv[4], &count);
    double *lags = grown(NULL, (count + 1) * sizeof *lags);
    double begun;
    double seconds = open_loop(calls, count, lags, &begun);
    report(begun, seconds, lags, count);
    return 0;
}
