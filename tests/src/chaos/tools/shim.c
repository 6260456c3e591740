/* Loaded into one node (LD_PRELOAD): another wall clock for it alone, and disks whose fsync fails. What it does is read at every call
 * from a file of four 64-bit integers that the test and the node both map:
 *
 *   0  nanoseconds to add to the wall clock
 *   1  not 0: fsync and fdatasync fail with EIO
 *   2  how often the wall clock was read with something added
 *   3  how often a sync was failed
 *
 * The monotonic clocks are left alone: a machine whose wall clock is set has the same ones as before.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none[4];
static volatile int64_t *told = none;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("CHAOS_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) told = at;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    int64_t add = told[0];
    int (*real)(clockid_t, struct timespec *) = NULL;
    static int (*found)(clockid_t, struct timespec *);
    if (!found) found = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real = found;
    int result = real ? real(clock, t) : (int)syscall(SYS_clock_gettime, clock, t);
    if (result != 0 || add == 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
    __atomic_fetch_add(&told[2], 1, __ATOMIC_RELAXED);
    int64_t ns = (int64_t)t->tv_sec * 1000000000LL + t->tv_nsec + add;
    t->tv_sec = ns / 1000000000LL;
    t->tv_nsec = ns % 1000000000LL;
    return 0;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

static int failed(void) {
    if (told[1] == 0) return 0;
    __atomic_fetch_add(&told[3], 1, __ATOMIC_RELAXED);
    errno = EIO;
    return 1;
}

int fsync(int fd) { return failed() ? -1 : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return failed() ? -1 : (int)syscall(SYS_fdatasync, fd); }
