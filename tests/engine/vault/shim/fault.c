/* LD_PRELOAD: the n-th call of one function on a file below a folder fails with an errno.
   AEGIS_FAULT="function:n:errno", AEGIS_FAULT_UNDER=folder. Built by tests/engine/vault/test_faults.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int below(const char *path) {
    const char *under = getenv("AEGIS_FAULT_UNDER");
    return under && path && strncmp(path, under, strlen(under)) == 0;
}

static int below_fd(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return below(path);
}

static int fails(const char *function) {
    static int passed;
    char wanted[64];
    int n, code;
    const char *text = getenv("AEGIS_FAULT");
    if (!text || sscanf(text, "%63[^:]:%d:%d", wanted, &n, &code) != 3 || strcmp(wanted, function) != 0)
        return 0;
    if (__sync_add_and_fetch(&passed, 1) != n)
        return 0;
    fprintf(stderr, "fault injected\n");
    errno = code;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    return below_fd(fd) && fails("pwrite") ? -1 : REAL(pwrite64)(fd, data, len, at);
}
ssize_t pread64(int fd, void *data, size_t len, off64_t at) {
    return below_fd(fd) && fails("pread") ? -1 : REAL(pread64)(fd, data, len, at);
}
ssize_t write(int fd, const void *data, size_t len) {
    return below_fd(fd) && fails("write") ? -1 : REAL(write)(fd, data, len);
}
int fdatasync(int fd) {
    return below_fd(fd) && fails("fsync") ? -1 : REAL(fdatasync)(fd);
}
int fsync(int fd) {
    return below_fd(fd) && fails("fsync") ? -1 : REAL(fsync)(fd);
}
