// Put between a broker and libc (LD_PRELOAD): syncs that are slow or fail, a wall clock that jumps or runs too fast.
//
// CHAOS_CONTROL names a file of five 64-bit numbers that are read at each call: microseconds that a sync takes longer;
// how many syncs fail; where they fail (0 anywhere, 1 below /records/, 2 below /metadata/); microseconds by which the
// wall clock is off; millionths by which it has run too fast since the program began.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { DELAY_US, FAILURES, PLACE, OFFSET_US, FAST_PPM, NUMBERS };

static int64_t nothing[NUMBERS];
static volatile int64_t *control = nothing;
static struct timespec began;

// Straight to the kernel: others may ask for the time before anything here is set up.
static int real_clock(clockid_t clock, struct timespec *now) {
    return syscall(SYS_clock_gettime, clock, now);
}

__attribute__((constructor)) static void begin(void) {
    real_clock(CLOCK_MONOTONIC, &began);
    const char *path = getenv("CHAOS_CONTROL");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof nothing, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(file);
}

static int is_here(int file) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return control[PLACE] == 0 || strstr(path, control[PLACE] == 1 ? "/records/" : "/metadata/") != NULL;
}

static int failing(int file) {
    if (control[FAILURES] > 0 && is_here(file)) {
        if (__sync_fetch_and_sub(&control[FAILURES], 1) > 0) return 1;
        __sync_fetch_and_add(&control[FAILURES], 1);
    }
    // In pieces, so that a disk that is healed is fast at once.
    for (int64_t waited = 0; waited < control[DELAY_US]; waited += 10000) usleep(10000);
    return 0;
}

int fdatasync(int file) {
    if (failing(file)) return errno = EIO, -1;
    return syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    if (failing(file)) return errno = EIO, -1;
    return syscall(SYS_fsync, file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int outcome = real_clock(clock, now);
    int64_t offset_us = control[OFFSET_US], fast = control[FAST_PPM];
    if (outcome != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) || (!offset_us && !fast)) return outcome;
    struct timespec monotonic;
    real_clock(CLOCK_MONOTONIC, &monotonic);
    int64_t ran_us = (monotonic.tv_sec - began.tv_sec) * 1000000 + (monotonic.tv_nsec - began.tv_nsec) / 1000;
    int64_t us = now->tv_sec * 1000000LL + now->tv_nsec / 1000 + offset_us + ran_us * fast / 1000000;
    now->tv_sec = us / 1000000;
    now->tv_nsec = us % 1000000 * 1000;
    return outcome;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int outcome = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return outcome;
}
