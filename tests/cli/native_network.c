/* Preloaded into a process: what it asks the network for, as a line a call in $NETWORK_LOG.
   Nothing leaves: lookups fail, and so do connections to other addresses than those of files. */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void told(const char *call, const char *what) {
    FILE *file = fopen(getenv("NETWORK_LOG"), "a");
    if (file) {
        fprintf(file, "%s %s\n", call, what ? what : "");
        fclose(file);
    }
}

static int internet(const struct sockaddr *address) {
    return address && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    told("getaddrinfo", name);
    return EAI_FAIL;
}

int connect(int descriptor, const struct sockaddr *address, socklen_t length) {
    if (internet(address)) {
        told("connect", "");
        errno = ENETUNREACH;
        return -1;
    }
    return syscall(SYS_connect, descriptor, address, length);
}

ssize_t sendto(int descriptor, const void *content, size_t size, int flags,
               const struct sockaddr *address, socklen_t length) {
    if (internet(address)) {
        told("sendto", "");
        errno = ENETUNREACH;
        return -1;
    }
    return syscall(SYS_sendto, descriptor, content, size, flags, address, length);
}
