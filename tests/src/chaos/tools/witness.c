/* A task that is observed from outside the cluster: it tells a socket when it starts and when it ends, by a clock that nobody fakes.
 *
 *   witness SOCKET NOTE HOLD_MS EXIT_CODE
 *
 * The socket is held open from the start to the end: when the process is killed, the kernel closes it, and that is heard too. In C and
 * linked statically because a run of a thousand tasks a minute shall cost the machine as little as can be.
 *
 *   S NOTE RUN ATTEMPT TOKEN SCHEDULED_AT PID BOOT_NS WALL_NS
 *   E EXIT_CODE BOOT_NS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Cannot be heard: an exit code that no test asks for. */
enum { UNHEARD = 97 };

static long long now(int clock) {
    struct timespec t = {0, 0};
    syscall(SYS_clock_gettime, clock, &t);
    return (long long)t.tv_sec * 1000000000LL + t.tv_nsec;
}

static const char *env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : "-";
}

int main(int argc, char **argv) {
    if (argc != 5) return UNHEARD;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(argv[1]) >= sizeof to.sun_path) return UNHEARD;
    strcpy(to.sun_path, argv[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) return UNHEARD;

    char line[2048];
    int length = snprintf(line, sizeof line, "S %s %s %s %s %s %d %lld %lld\n", argv[2], env("SCHED_RUN"), env("SCHED_ATTEMPT"),
                          env("SCHED_TOKEN"), env("SCHED_SCHEDULED_AT"), (int)getpid(), now(CLOCK_BOOTTIME), now(CLOCK_REALTIME));
    if (length <= 0 || length >= (int)sizeof line || write(fd, line, length) != length) return UNHEARD;

    long hold = atol(argv[3]);
    struct timespec left = {hold / 1000, hold % 1000 * 1000000L};
    while (hold > 0 && nanosleep(&left, &left) != 0) {}

    int code = atoi(argv[4]);
    length = snprintf(line, sizeof line, "E %d %lld\n", code, now(CLOCK_BOOTTIME));
    if (write(fd, line, length) != length) return UNHEARD;
    return code;
}
