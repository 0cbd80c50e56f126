/* Bytes between a socket and an nghttp2 session, for the client and for the empty server. */
#ifndef PUMP_H
#define PUMP_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>

struct pump {
    int fd;
    int poller;
    nghttp2_session *session;
    unsigned char *out; /* what the socket has not taken yet */
    size_t out_len, out_size;
    bool waits_for_room; /* EPOLLOUT is asked for */
};

/* Sets the socket up and registers `pump` with the epoll instance `poller`. */
void pump_open(struct pump *pump, int fd, int poller);
void pump_close(struct pump *pump);

/* Reads what is there and hands it to the session. False: the peer is gone. */
bool pump_in(struct pump *pump);

/* Writes what the session has to say, as far as the socket takes it. False: the peer is gone. */
bool pump_out(struct pump *pump);

/* Seconds on the monotonic clock. */
double now(void);

/* The whole file; `size` bytes. Exits with a message if it cannot be read. */
unsigned char *read_file(const char *path, size_t *size);

/* A gRPC message: the five bytes of its prefix, then `size` bytes of `body`. */
unsigned char *framed(const unsigned char *body, size_t size);

/* `realloc` that exits when there is no memory. */
void *grown(void *old, size_t size);

#define FRAME_PREFIX 5

#endif
