#include "pump.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* As much as is written at once: more would only sit in the socket's buffer. */
#define OUT_ENOUGH (256 * 1024)

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void *grown(void *old, size_t size) {
    void *new = realloc(old, size);
    if (new == NULL) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        exit(1);
    }
    return new;
}

unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    unsigned char *bytes = NULL;
    size_t got, room = 0;
    *size = 0;
    do {
        if (*size == room)
            bytes = grown(bytes, room = 2 * room + 4096);
        got = fread(bytes + *size, 1, room - *size, file);
        *size += got;
    } while (got > 0);
    fclose(file);
    return bytes;
}

unsigned char *framed(const unsigned char *body, size_t size) {
    unsigned char *frame = grown(NULL, FRAME_PREFIX + size);
    frame[0] = 0; /* not compressed */
    for (int i = 0; i < 4; i++)
        frame[1 + i] = (unsigned char)(size >> (24 - 8 * i));
    memcpy(frame + FRAME_PREFIX, body, size);
    return frame;
}

void pump_open(struct pump *pump, int fd, int poller) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    pump->fd = fd;
    pump->poller = poller;
    pump->out = NULL;
    pump->out_len = pump->out_size = 0;
    pump->waits_for_room = false;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = pump};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

void pump_close(struct pump *pump) {
    nghttp2_session_del(pump->session);
    close(pump->fd);
    free(pump->out);
}

bool pump_in(struct pump *pump) {
    static unsigned char bytes[64 * 1024];
    for (;;) {
        ssize_t got = read(pump->fd, bytes, sizeof bytes);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR;
        if (got == 0)
            return false;
        if (nghttp2_session_mem_recv(pump->session, bytes, (size_t)got) < 0)
            return false;
        if ((size_t)got < sizeof bytes)
            return true;
    }
}

static void wait_for_room(struct pump *pump, bool wait) {
    if (wait == pump->waits_for_room)
        return;
    pump->waits_for_room = wait;
    struct epoll_event event = {.events = EPOLLIN | (wait ? EPOLLOUT : 0), .data.ptr = pump};
    epoll_ctl(pump->poller, EPOLL_CTL_MOD, pump->fd, &event);
}

bool pump_out(struct pump *pump) {
    for (;;) {
        while (pump->out_len < OUT_ENOUGH) {
            const unsigned char *piece;
            ssize_t size = nghttp2_session_mem_send(pump->session, &piece);
            if (size < 0)
                return false;
            if (size == 0)
                break;
            if (pump->out_len + (size_t)size > pump->out_size) {
                pump->out_size = pump->out_len + (size_t)size + OUT_ENOUGH;
                pump->out = grown(pump->out, pump->out_size);
            }
            memcpy(pump->out + pump->out_len, piece, (size_t)size);
            pump->out_len += (size_t)size;
        }
        if (pump->out_len == 0) {
            wait_for_room(pump, false);
            return true;
        }
        ssize_t put = write(pump->fd, pump->out, pump->out_len);
        if (put < 0) {
            if (errno != EAGAIN && errno != EINTR)
                return false;
            wait_for_room(pump, true);
            return true;
        }
        pump->out_len -= (size_t)put;
        memmove(pump->out, pump->out + put, pump->out_len);
    }
}
