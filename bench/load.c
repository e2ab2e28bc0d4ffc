/* Load that iperf3, wrk and dnsperf do not make: request and response over TCP, connections made and closed, connections
 * held, and datagrams as fast as they go. It is both ends: the server runs where the system under test leads to.
 *
 *   load serve PORT                        TCP: sends back what comes
 *   load serve-once PORT                   the same once, then closes first, as HTTP servers do
 *   load rr HOST PORT SIZE SECONDS         one connection, one request of SIZE bytes at a time
 *   load crr HOST PORT SIZE SECONDS N      connect, request, response, close; N at a time
 *   load hold HOST PORT COUNT N            COUNT connections, N being made at a time, each asked once; until SIGTERM
 *   load udp-sink PORT                     counts datagrams, until none has come for half a second
 *   load udp-flood HOST PORT SIZE SECONDS SEGMENTS
 *   load udp-source PORT SIZE SECONDS SEGMENTS      floods whoever sends it a datagram
 *   load udp-ask HOST PORT                 sends one and counts what comes
 *
 * SEGMENTS is the number of datagrams in one sendmsg with UDP_SEGMENT, or 0 for sendmmsg of datagrams one by one. Each
 * prints one line of JSON; times are microseconds. Addresses are IPv4. Exit status 1 with a sentence where something
 * failed, 2 for usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64,                 /* datagrams of one sendmmsg or recvmmsg */
    MAX_SIZE = 65536,
    WARM_UP = 200,              /* requests before counting */
    CONNECT_MS = 10000,
    QUIET_MS = 500,             /* a flood is over when nothing has come for so long */
    FIRST_MS = 10000,
};

static uint8_t bytes[MAX_SIZE];

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int number(const char *text, int least, int most)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) {
        fprintf(stderr, "load: %s is not a number from %d to %d\n", text, least, most);
        exit(2);
    }
    return (int)value;
}

static struct sockaddr_in address(const char *host, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(port, 1, 65535))};
    if (host && inet_pton(AF_INET, host, &a.sin_addr) != 1) {
        fprintf(stderr, "load: %s is not an IPv4 address\n", host);
        exit(2);
    }
    return a;
}

static double seconds_of(const char *text)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end || !(value > 0 && value < 3600)) {
        fprintf(stderr, "load: %s is not a time in seconds\n", text);
        exit(2);
    }
    return value;
}

static void no_delay(int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* --- times of single operations, kept all, so that quantiles are exact */

static struct {
    uint64_t *ns;
    size_t count, room;
} times;

static void record(uint64_t ns)
{
    if (times.count == times.room) {
        times.room = times.room ? times.room * 2 : 1 << 16;
        times.ns = realloc(times.ns, times.room * sizeof *times.ns);
        if (!times.ns)
            die("memory");
    }
    times.ns[times.count++] = ns;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(double seconds, uint64_t errors)
{
    static const double points[] = {0, .01, .02, .05, .1, .2, .3, .4, .5, .6, .7, .75, .8, .85, .9, .95, .97, .98, .99,
                                    .995, .998, .999, .9995, .9999, 1};
    if (!times.count) {
        fprintf(stderr, "load: nothing was answered (%llu errors)\n", (unsigned long long)errors);
        exit(1);
    }
    qsort(times.ns, times.count, sizeof *times.ns, by_size);
    printf("{\"count\": %zu, \"seconds\": %.6f, \"errors\": %llu, \"quantiles\": [", times.count, seconds,
           (unsigned long long)errors);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        size_t at = (size_t)(points[i] * (double)times.count);
        if (at >= times.count)
            at = times.count - 1;
        printf("%s[%g, %.2f]", i ? ", " : "", points[i], (double)times.ns[at] / 1e3);
    }
    printf("]}\n");
}

/* --- TCP server */

static int listener(const char *port)
{
    struct sockaddr_in a = address(NULL, port);
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 65535))
        die("listening");
    return fd;
}

static _Noreturn void serve(const char *port, int once)
{
    const int lfd = listener(port), poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = lfd}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, lfd, &event);
    for (;;) {
        const int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == lfd) {
                while ((fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    no_delay(fd);
                    event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            const ssize_t got = recv(fd, bytes, sizeof bytes, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            if (got > 0 && send(fd, bytes, (size_t)got, MSG_NOSIGNAL) == got && !once)
                continue;
            close(fd);
        }
    }
}

/* --- request and response */

static int connected(const struct sockaddr_in *a)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)a, sizeof *a))
        die("connecting");
    no_delay(fd);
    return fd;
}

static void ask(int fd, size_t size)
{
    if (send(fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        die("sending");
    for (size_t have = 0; have < size;) {
        const ssize_t n = recv(fd, bytes, size - have, 0);
        if (n <= 0)
            die("receiving");
        have += (size_t)n;
    }
}

static int request_response(const struct sockaddr_in *a, size_t size, double seconds)
{
    const int fd = connected(a);
    for (int i = 0; i < WARM_UP; i++)
        ask(fd, size);
    const uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
    uint64_t before = begin;
    while (before < end) {
        ask(fd, size);
        const uint64_t after = now_ns();
        record(after - before);
        before = after;
    }
    report((double)(before - begin) / 1e9, 0);
    return 0;
}

/* --- connections made and closed */

struct slot {
    int fd;                     /* -1: free */
    int asked;
    size_t have;
    uint64_t began;
};

static int poller;

static void begin_slot(struct slot *s, const struct sockaddr_in *a)
{
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        die("socket");
    s->asked = 0;
    s->have = 0;
    s->began = now_ns();
    no_delay(s->fd);
    if (connect(s->fd, (const struct sockaddr *)a, sizeof *a) && errno != EINPROGRESS)
        die("connecting");
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = s};
    epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event);
}

/* One step of a connection: 1 when it is over as it should be, -1 when it has failed, else 0. */
static int step(struct slot *s, size_t size)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (!s->asked) {
        if (send(s->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
            return -1;
        s->asked = 1;
        epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &event);
        return 0;
    }
    const ssize_t n = recv(s->fd, bytes, sizeof bytes, 0);
    if (n > 0) {
        s->have += (size_t)n;
        return 0;
    }
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    return s->have == size ? 1 : -1;
}

static int connect_request_close(const struct sockaddr_in *a, size_t size, double seconds, int n)
{
    struct slot *slots = calloc((size_t)n, sizeof *slots);
    struct epoll_event events[256];
    uint64_t errors = 0;
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!slots || poller < 0)
        die("memory");
    const uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
    uint64_t now = begin;
    for (int i = 0; i < n; i++)
        begin_slot(&slots[i], a);
    while (now < end) {
        const int found = epoll_wait(poller, events, 256, 100);
        now = now_ns();
        for (int i = 0; i < found; i++) {
            struct slot *s = events[i].data.ptr;
            const int over = step(s, size);
            if (!over)
                continue;
            if (over > 0)
                record(now - s->began);
            else if (++errors > 10000)
                die("too many failures, the last");
            close(s->fd);
            begin_slot(s, a);
        }
    }
    report((double)(now - begin) / 1e9, errors);
    return 0;
}

/* --- connections held */

static void await_all(const int *fds, int count, int *answered)
{
    for (int i = 0; i < count; i++) {
        struct pollfd p = {fds[i], POLLIN, 0};
        uint8_t byte;
        if (poll(&p, 1, CONNECT_MS) == 1 && recv(fds[i], &byte, 1, MSG_DONTWAIT) == 1)
            ++*answered;
    }
}

static int hold(const struct sockaddr_in *a, int count, int n)
{
    int *fds = calloc((size_t)count, sizeof *fds);
    struct epoll_event events[256];
    int begun = 0, done = 0, answered = 0;
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!fds || poller < 0)
        die("memory");
    const uint64_t begin = now_ns();
    while (done < count) {
        for (; begun < count && begun - done < n; begun++) {
            const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            if (fd < 0)
                die("socket");
            if (connect(fd, (const struct sockaddr *)a, sizeof *a) && errno != EINPROGRESS)
                die("connecting");
            struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)begun};
            fds[begun] = fd;
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        }
        const int found = epoll_wait(poller, events, 256, CONNECT_MS);
        if (found <= 0) {
            fprintf(stderr, "load: %d of %d connections stand, and no more come\n", done, count);
            return 1;
        }
        for (int i = 0; i < found; i++) {
            const int fd = fds[events[i].data.u32];
            socklen_t length = sizeof errno;
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno, &length);
            if (errno) {
                fprintf(stderr, "load: connection %d of %d: %s\n", done + 1, count, strerror(errno));
                return 1;
            }
            epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
            done++;
        }
    }
    const double took = (double)(now_ns() - begin) / 1e9;
    for (int i = 0; i < count; i += BATCH) {    /* each is asked once: that it stands is not only the system's word */
        const int some = count - i < BATCH ? count - i : BATCH;
        for (int k = 0; k < some; k++)
            if (send(fds[i + k], "?", 1, MSG_NOSIGNAL) != 1)
                die("asking a connection");
        await_all(fds + i, some, &answered);
    }
    printf("{\"held\": %d, \"answered\": %d, \"seconds\": %.6f}\n", count, answered, took);
    fflush(stdout);
    pause();
    return 0;
}

/* --- datagrams */

static int udp_socket(void)
{
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 8 << 20;
    if (fd < 0)
        die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

static int udp_bound(const char *port)
{
    struct sockaddr_in a = address(NULL, port);
    const int fd = udp_socket();
    if (bind(fd, (struct sockaddr *)&a, sizeof a))
        die("binding");
    printf("ready\n");
    fflush(stdout);
    return fd;
}

static uint64_t segments_of(struct msghdr *m, unsigned length)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0)
                return (length + (unsigned)size - 1) / (unsigned)size;
        }
    return 1;
}

/* Counts until none comes any more. With a hello, it is sent again until the first comes. */
static int sink(int fd, int hello)
{
    static uint8_t room[BATCH][MAX_SIZE];
    static char control[BATCH][64];
    struct mmsghdr messages[BATCH];
    struct iovec iov[BATCH];
    uint64_t count = 0, total = 0, first = 0, last = 0;
    const uint64_t begin = now_ns();
    const int on = 1;
    setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        if (hello && !count && send(fd, "hello", 5, 0) < 0)
            die("sending");
        if (poll(&p, 1, count ? QUIET_MS : 200) == 0) {
            if (count || now_ns() - begin > (uint64_t)FIRST_MS * 1000000u)
                break;
            continue;
        }
        for (int i = 0; i < BATCH; i++) {
            iov[i] = (struct iovec){room[i], MAX_SIZE};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = control[i],
                                                  .msg_controllen = sizeof control[i]};
        }
        const int n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        if (n < 0 && errno != EAGAIN && errno != ECONNREFUSED)
            die("receiving");
        if (n <= 0)
            continue;
        last = now_ns();
        if (!count)
            first = last;
        for (int i = 0; i < n; i++) {
            count += segments_of(&messages[i].msg_hdr, messages[i].msg_len);
            total += messages[i].msg_len;
        }
    }
    printf("{\"count\": %llu, \"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)count,
           (unsigned long long)total, (double)(last - first) / 1e9);
    return 0;
}

static int flood(int fd, size_t size, double seconds, int segments)
{
    struct mmsghdr messages[BATCH];
    struct iovec one = {bytes, size};
    uint64_t count = 0;
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &one;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    if (segments) {
        const int each = (int)size;
        if ((size_t)segments * size > 65000 || setsockopt(fd, SOL_UDP, UDP_SEGMENT, &each, sizeof each))
            die("UDP_SEGMENT");
    }
    const uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9);
    uint64_t now = begin;
    for (; now < end; now = now_ns()) {
        if (segments) {
            if (send(fd, bytes, size * (size_t)segments, 0) > 0)
                count += (uint64_t)segments;
            else if (errno != ENOBUFS && errno != ECONNREFUSED && errno != EAGAIN)
                die("sending");
        } else {
            const int n = sendmmsg(fd, messages, BATCH, 0);
            if (n > 0)
                count += (uint64_t)n;
            else if (errno != ENOBUFS && errno != ECONNREFUSED && errno != EAGAIN)
                die("sending");
        }
    }
    printf("{\"count\": %llu, \"seconds\": %.6f}\n", (unsigned long long)count, (double)(now - begin) / 1e9);
    return 0;
}

static int connected_udp(const struct sockaddr_in *a)
{
    const int fd = udp_socket();
    if (connect(fd, (const struct sockaddr *)a, sizeof *a))
        die("connecting");
    return fd;
}

static int source(const char *port, size_t size, double seconds, int segments)
{
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    const int fd = udp_bound(port);
    if (recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &length) < 0 ||
        connect(fd, (struct sockaddr *)&from, length))
        die("waiting for a datagram");
    memset(bytes, 0, sizeof bytes);
    return flood(fd, size, seconds, segments);
}

static int usage(void)
{
    fprintf(stderr, "usage: load serve|serve-once PORT\n"
                    "       load rr HOST PORT SIZE SECONDS\n"
                    "       load crr HOST PORT SIZE SECONDS N\n"
                    "       load hold HOST PORT COUNT N\n"
                    "       load udp-sink PORT | udp-ask HOST PORT\n"
                    "       load udp-flood HOST PORT SIZE SECONDS SEGMENTS\n"
                    "       load udp-source PORT SIZE SECONDS SEGMENTS\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    const struct rlimit descriptors = {1 << 18, 1 << 18};
    if (setrlimit(RLIMIT_NOFILE, &descriptors)) {
        struct rlimit have;
        getrlimit(RLIMIT_NOFILE, &have);
        have.rlim_cur = have.rlim_max;
        setrlimit(RLIMIT_NOFILE, &have);
    }
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && !strcmp(mode, "serve"))
        serve(argv[2], 0);
    if (argc == 3 && !strcmp(mode, "serve-once"))
        serve(argv[2], 1);
    if (argc == 3 && !strcmp(mode, "udp-sink"))
        return sink(udp_bound(argv[2]), 0);
    if (argc == 6 && !strcmp(mode, "udp-source"))
        return source(argv[2], (size_t)number(argv[3], 1, 65000), seconds_of(argv[4]), number(argv[5], 0, 64));
    if (argc < 4)
        return usage();
    const struct sockaddr_in a = address(argv[2], argv[3]);
    if (argc == 4 && !strcmp(mode, "udp-ask"))
        return sink(connected_udp(&a), 1);
    if (argc == 6 && !strcmp(mode, "rr"))
        return request_response(&a, (size_t)number(argv[4], 1, MAX_SIZE), seconds_of(argv[5]));
    if (argc == 7 && !strcmp(mode, "crr"))
        return connect_request_close(&a, (size_t)number(argv[4], 1, 1024), seconds_of(argv[5]), number(argv[6], 1, 1024));
    if (argc == 6 && !strcmp(mode, "hold"))
        return hold(&a, number(argv[4], 1, 60000), number(argv[5], 1, 1024));
    if (argc == 7 && !strcmp(mode, "udp-flood"))
        return flood(connected_udp(&a), (size_t)number(argv[4], 1, 65000), seconds_of(argv[5]), number(argv[6], 0, 64));
    return usage();
}
