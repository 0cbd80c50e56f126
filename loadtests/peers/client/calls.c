#include "calls.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "answer.h"

#define WINDOW (1 << 24)
#define EVENTS 256

static const char *authority_host, *authority_port;

/* Which of the right answers it is; NULL: none. */
static struct expected *recognised(struct call *call) {
    struct kind *kind = call->kind;
    for (unsigned i = 0; i < kind->expected_count; i++)
        if (answer_is_right(call->answer, call->answer_size, kind->expected[i].values,
                            kind->expected[i].count))
            return &kind->expected[i];
    return NULL;
}

static void settle(struct call *call) {
    struct kind *kind = call->kind;
    double took = now() - call->due;
    kind->statuses[call->status]++;
    if (call->status == 0) {
        struct expected *answer = recognised(call);
        if (answer == NULL) {
            kind->wrong++;
        } else {
            if (kind->latency_count == kind->latency_room) {
                kind->latency_room = 2 * kind->latency_room + 1024;
                kind->latencies =
                    grown(kind->latencies, kind->latency_room * sizeof *kind->latencies);
            }
            kind->latencies[kind->latency_count++] = took;
            answer->in_time += kind->deadline == 0 || took <= kind->deadline;
        }
    }
    call->connection = NULL;
    call->done(call);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *user) {
    (void)flags, (void)user, (void)value_size;
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call != NULL && name_size == 11 && memcmp(name, "grpc-status", 11) == 0) {
        int status = atoi((const char *)value); /* nghttp2 ends values with a zero */
        call->status = status >= 0 && status < STATUSES ? status : STATUSES - 1;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t size, void *user) {
    (void)flags, (void)user;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (call != NULL) {
        call->answer = grown(call->answer, call->answer_size + size);
        memcpy(call->answer + call->answer_size, data, size);
        call->answer_size += size;
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *user) {
    (void)error, (void)user;
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    /* A call that expired is over already, and may be on another stream by now. */
    if (call == NULL || call->connection == NULL || call->stream != stream)
        return 0;
    if (call->status < 0)
        call->status = UNAVAILABLE; /* the stream ended without a status */
    settle(call);
    return 0;
}

static ssize_t read_frame(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room,
                          uint32_t *flags, nghttp2_data_source *source, void *user) {
    (void)session, (void)stream, (void)user;
    struct call *call = source->ptr;
    size_t left = call->kind->frame_size - call->sent;
    size_t size = left < room ? left : room;
    memcpy(buffer, call->kind->frame + call->sent, size);
    call->sent += size;
    if (size == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)size;
}

static void open_connection(struct connection *connection, int poller) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int fd = -1;
    if (getaddrinfo(authority_host, authority_port, &hints, &found) == 0) {
        fd = socket(found->ai_family, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0)
            fd = -1;
        freeaddrinfo(found);
    }
    if (fd < 0) {
        fprintf(stderr, "cannot connect to %s:%s: %s\n", authority_host, authority_port,
                strerror(errno));
        exit(1);
    }
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_client_new(&connection->pump.session, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
    };
    nghttp2_submit_settings(connection->pump.session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(connection->pump.session, NGHTTP2_FLAG_NONE, 0, WINDOW);
    pump_open(&connection->pump, fd, poller);
}

static void lost(struct connection *connection, int poller, struct call *calls, size_t count) {
    pump_close(&connection->pump);
    open_connection(connection, poller);
    for (size_t i = 0; i < count; i++)
        if (calls[i].connection == connection) {
            calls[i].status = UNAVAILABLE;
            settle(&calls[i]);
        }
}

void kind_open(struct kind *kind, const char *host, const char *port, int poller,
               unsigned connections) {
    authority_host = host;
    authority_port = port;
    kind->connections = grown(NULL, connections * sizeof *kind->connections);
    kind->connection_count = connections;
    for (unsigned i = 0; i < connections; i++)
        open_connection(&kind->connections[i], poller);
}

void kind_forget(struct kind *kind) {
    kind->latency_count = kind->sent = kind->wrong = 0;
    for (unsigned i = 0; i < kind->expected_count; i++)
        kind->expected[i].in_time = 0;
    memset(kind->statuses, 0, sizeof kind->statuses);
}

#define HEADER(name, value, size)                                                                  \
    {(uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, size, NGHTTP2_NV_FLAG_NONE}
#define FIXED(name, value) HEADER(name, value, sizeof(value) - 1)

void call_send(struct call *call) {
    struct kind *kind = call->kind;
    call->connection = &kind->connections[kind->next_connection++ % kind->connection_count];
    call->sent = call->answer_size = 0;
    call->status = -1;
    kind->sent++;
    char timeout[16] = "";
    if (kind->deadline > 0) {
        double left = 1e6 * (call->due + kind->deadline - now());
        /* In whole milliseconds, rounded up, as gRPC clients say it. */
        snprintf(timeout, sizeof timeout, "%.0fm", left > 1000 ? ceil(1e-3 * left) : 1);
    }
    nghttp2_nv headers[] = {
        FIXED(":method", "POST"),
        FIXED(":scheme", "http"),
        FIXED(":path", "/inference.GRPCInferenceService/ModelInfer"),
        HEADER(":authority", authority_host, strlen(authority_host)),
        FIXED("te", "trailers"),
        FIXED("content-type", "application/grpc"),
        FIXED("user-agent", "peers-client"),
        HEADER("grpc-timeout", timeout, strlen(timeout)),
    };
    size_t count = sizeof headers / sizeof *headers - (*timeout == '\0');
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = read_frame};
    call->stream = nghttp2_submit_request(call->connection->pump.session, NULL, headers, count,
                                          &body, call);
    if (call->stream < 0) {
        fprintf(stderr, "cannot send: %s\n", nghttp2_strerror(call->stream));
        exit(1);
    }
}

void call_expire(struct call *call) {
    nghttp2_session *session = call->connection->pump.session;
    nghttp2_session_set_stream_user_data(session, call->stream, NULL);
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
    call->status = DEADLINE_EXCEEDED;
    settle(call);
}

void calls_step(int poller, struct kind *kinds, unsigned kind_count, struct call *calls,
                size_t call_count, double wake) {
    for (unsigned k = 0; k < kind_count; k++)
        for (unsigned c = 0; c < kinds[k].connection_count; c++) {
            struct connection *connection = &kinds[k].connections[c];
            if (!connection->pump.waits_for_room && !pump_out(&connection->pump))
                lost(connection, poller, calls, call_count);
        }
    double wait = wake - now();
    if (wait < 0)
        wait = 0;
    struct timespec limit = {(time_t)wait, (long)(1e9 * (wait - (double)(time_t)wait))};
    struct epoll_event events[EVENTS];
    int ready = epoll_pwait2(poller, events, EVENTS, &limit, NULL);
    for (int i = 0; i < ready; i++) {
        struct connection *connection = events[i].data.ptr;
        bool alive = true;
        if (events[i].events & EPOLLOUT)
            alive = pump_out(&connection->pump);
        if (alive && events[i].events & ~(uint32_t)EPOLLOUT)
            alive = pump_in(&connection->pump);
        if (!alive)
            lost(connection, poller, calls, call_count);
    }
}
