/* A receiver that is faster than any sender: one thread, epoll, keep-alive.
 *
 * receiver PORT LEDGER
 *
 * Answers each request with 200 and notes "<webhook-id> <CLOCK_REALTIME in us>\n" in LEDGER.
 * /delay/MS/... answers after MS milliseconds; /hang/... never answers; GET /flush writes what is
 * noted so far to the file, then answers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FDS = 65536, FIRST_ROOM = 4096, EVENTS = 512 };

static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

struct connection {
    char *data;
    size_t used, room;
    unsigned generation;
};
struct answer_due {
    long long at_us;
    int fd;
    unsigned generation;
};

static struct connection connections[MAX_FDS];
static struct answer_due *due; /* a ring ordered by time: every delay of one run is the same */
static size_t due_first, due_count, due_room;
static FILE *ledger;
static int poller;

static long long now_us(clockid_t clock)
{
    struct timespec moment;
    clock_gettime(clock, &moment);
    return moment.tv_sec * 1000000LL + moment.tv_nsec / 1000;
}

static void drop(int fd)
{
    connections[fd].generation++;
    connections[fd].used = 0;
    close(fd);
}

static void answer(int fd)
{
    if (write(fd, ANSWER, sizeof ANSWER - 1) < 0)
        drop(fd);
}

static void answer_later(int fd, int milliseconds)
{
    if (due_count == due_room) {
        size_t room = due_room ? due_room * 2 : 1024;
        struct answer_due *larger = malloc(room * sizeof *larger);
        for (size_t i = 0; i < due_count; i++)
            larger[i] = due[(due_first + i) % due_room];
        free(due);
        due = larger, due_room = room, due_first = 0;
    }
    due[(due_first + due_count++) % due_room] = (struct answer_due){
        now_us(CLOCK_MONOTONIC) + milliseconds * 1000LL, fd, connections[fd].generation};
}

static int answer_what_is_due(void)
{
    long long moment = now_us(CLOCK_MONOTONIC);
    while (due_count) {
        struct answer_due *one = &due[due_first];
        if (one->at_us > moment)
            return (int)((one->at_us - moment) / 1000) + 1;
        if (connections[one->fd].generation == one->generation)
            answer(one->fd);
        due_first = (due_first + 1) % due_room;
        due_count--;
    }
    return -1;
}

/* Handles one request at the start of the buffer; its length, or 0 when it is not whole yet. */
static size_t handle(int fd, char *data, size_t used)
{
    char *end = memmem(data, used, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t length = 0, head = (size_t)(end - data) + 4;
    char *id = NULL, *id_end = NULL;
    for (char *line = memchr(data, '\n', head); line && line + 1 < end;
         line = memchr(line + 1, '\n', (size_t)(end + 2 - line - 1))) {
        char *name = line + 1;
        if (!strncasecmp(name, "content-length:", 15))
            length = strtoul(name + 15, NULL, 10);
        else if (!strncasecmp(name, "webhook-id:", 11)) {
            id = name + 11;
            while (*id == ' ')
                id++;
            id_end = memchr(id, '\r', (size_t)(end + 2 - id));
        }
    }
    if (used < head + length)
        return 0;
    char *path = memchr(data, '/', head);
    if (id && id_end)
        fprintf(ledger, "%.*s %lld\n", (int)(id_end - id), id, now_us(CLOCK_REALTIME));
    if (path && !strncmp(path, "/flush", 6)) {
        fflush(ledger);
        answer(fd);
    } else if (path && !strncmp(path, "/delay/", 7))
        answer_later(fd, atoi(path + 7));
    else if (!path || strncmp(path, "/hang", 5))
        answer(fd);
    return head + length;
}

static void take(int fd)
{
    struct connection *one = &connections[fd];
    for (;;) {
        if (one->room - one->used < FIRST_ROOM) {
            one->room = one->room ? one->room * 2 : FIRST_ROOM * 2;
            one->data = realloc(one->data, one->room);
        }
        ssize_t got = read(fd, one->data + one->used, one->room - one->used);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            drop(fd);
            return;
        }
        if (got < 0)
            return;
        one->used += (size_t)got;
        size_t done = 0, length;
        unsigned generation = one->generation;
        while (done < one->used && (length = handle(fd, one->data + done, one->used - done)))
            done += length;
        if (generation != one->generation)
            return;
        memmove(one->data, one->data + done, one->used - done);
        one->used -= done;
    }
}

int main(int count, char **arguments)
{
    if (count != 3)
        return fputs("usage: receiver PORT LEDGER\n", stderr), 2;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files = {MAX_FDS, MAX_FDS};
    setrlimit(RLIMIT_NOFILE, &files);
    ledger = fopen(arguments[2], "w");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)atoi(arguments[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!ledger || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, 4096))
        return perror("receiver"), 1;
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, answer_what_is_due());
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                take(events[i].data.fd);
                continue;
            }
            int fd;
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MAX_FDS) {
                    close(fd);
                    continue;
                }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                connections[fd].used = 0;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
