/* Answers every call with the same bytes at once: what is measured against it is the client.
 *
 *   empty_server ANSWER    (a file with a ModelInferResponse); prints its port
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pump.h"

#define EVENTS 256

static unsigned char *frame;
static size_t frame_size;

#define FIXED(name, value)                                                                         \
    {(uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1,                   \
     NGHTTP2_NV_FLAG_NONE}

static ssize_t read_answer(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *user) {
    (void)source, (void)user;
    nghttp2_nv trailers[] = {FIXED("grpc-status", "0")};
    /* An answer of a few values fits into one HTTP/2 frame; main has checked it. */
    (void)room;
    memcpy(buffer, frame, frame_size);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(session, stream, trailers, 1);
    return (ssize_t)frame_size;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *got, void *user) {
    (void)user;
    if (got->hd.type != NGHTTP2_DATA || !(got->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    nghttp2_nv headers[] = {FIXED(":status", "200"), FIXED("content-type", "application/grpc")};
    nghttp2_data_provider body = {.read_callback = read_answer};
    nghttp2_submit_response(session, got->hd.stream_id, headers, 2, &body);
    return 0;
}

static void accepted(int fd, int poller) {
    struct pump *pump = grown(NULL, sizeof *pump);
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_server_new(&pump->session, callbacks, NULL);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1 << 20}};
    nghttp2_submit_settings(pump->session, NGHTTP2_FLAG_NONE, settings, 1);
    pump_open(pump, fd, poller);
    pump_out(pump);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: empty_server ANSWER\n");
        return 2;
    }
    size_t size;
    unsigned char *body = read_file(argv[1], &size);
    frame = framed(body, size);
    frame_size = FRAME_PREFIX + size;
    if (frame_size > 16384) {
        fprintf(stderr, "an answer of %zu bytes does not fit into one HTTP/2 frame\n", size);
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1024) != 0) {
        perror("listen");
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct pump *pump = events[i].data.ptr;
            if (pump == NULL) {
                int fd = accept(listener, NULL, NULL);
                if (fd >= 0)
                    accepted(fd, poller);
            } else if (!pump_in(pump) || !pump_out(pump)) {
                pump_close(pump);
                free(pump);
            }
        }
    }
}
