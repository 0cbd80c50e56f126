/* ModelInfer calls over HTTP/2: connections, calls in flight, and what is counted of them. */
#ifndef CALLS_H
#define CALLS_H

#include <stdint.h>

#include "pump.h"

#define STATUSES 17 /* gRPC's, 0 (OK) to 16 */
#define DEADLINE_EXCEEDED 4
#define UNAVAILABLE 14

struct connection {
    struct pump pump; /* first, so that what epoll names is the connection */
};

/* A model of several variants has as many right answers. */
#define MOST_ANSWERS 8

struct expected {
    float *values;
    size_t count;
    size_t in_time; /* answers of this kind that were */
};

/* What is sent again and again, and what came of it. */
struct kind {
    const char *name;
    unsigned char *frame;
    size_t frame_size;
    struct expected expected[MOST_ANSWERS];
    unsigned expected_count;
    double deadline; /* seconds from when it is due; 0: none */
    struct connection *connections;
    unsigned connection_count, next_connection;
    double *latencies; /* of right answers, seconds from when each was due */
    size_t latency_count, latency_room;
    size_t sent, wrong, statuses[STATUSES];
};

struct call {
    struct kind *kind;
    struct connection *connection; /* NULL: not in flight */
    double due;
    int32_t stream;
    size_t sent; /* bytes of the frame */
    int status;  /* -1 until the server has told one */
    unsigned char *answer;
    size_t answer_size;
    void (*done)(struct call *); /* called when it is over; may send it again */
};

/* Reads a kind's files and connects it `connections` times. */
void kind_open(struct kind *kind, const char *host, const char *port, int poller,
               unsigned connections);
void kind_forget(struct kind *kind);

/* Sends; the connections take turns. */
void call_send(struct call *call);

/* Gives it up as a stock client does at the deadline: the caller is told, the stream reset. */
void call_expire(struct call *call);

/* Writes what is due, waits until `wake` at most, reads what came, and settles it.
 * `calls` are all that may be in flight: a lost connection fails its own. */
void calls_step(int poller, struct kind *kinds, unsigned kind_count, struct call *calls,
                size_t call_count, double wake);

#endif
