/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* What an administrator or his tools write as the file of "AutocertHostPolicy file". */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <apr_general.h>

#include "base/hostname.h"
#include "manager/host_file.h"

#define NOW apr_time_from_sec(1700000000)
#define LISTED_MAX 8        /* names that are looked up in the file, which is read for each */

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

typedef struct check_t {
    const manager_host_file_t *file;
    apr_pool_t *pool;
    size_t count;
} check_t;

/* A name as everybody else spells it, and one that both ways of asking know. */
static apr_status_t check_name(void *baton, const char *name)
{
    check_t *check = baton;
    char again[BASE_HOSTNAME_SIZE];

    if (!base_hostname_from_client(again, name, strlen(name)) || strcmp(again, name) != 0
        || !manager_host_file_allows(check->file, name)) {
        abort();
    }
    if (check->count++ < LISTED_MAX && !manager_host_file_lists(check->file, name, check->pool)) {
        abort();
    }
    return APR_SUCCESS;
}

/* A set with room for so many names; freed by the caller. */
static void *make_set(shared_names_t **names, size_t count)
{
    static const unsigned char key[SHARED_NAMES_KEY_SIZE];
    apr_uint32_t slots = shared_names_slots(count);
    void *memory = calloc(1, shared_names_size(slots));

    if (!memory) {
        abort();
    }
    shared_names_init(memory, slots, key);
    *names = shared_names_attach(memory, shared_names_size(slots));
    return memory;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int fd = memfd_create("hosts", MFD_CLOEXEC);
    manager_host_file_t file = { 0 };
    apr_status_t reported = APR_SUCCESS;
    apr_pool_t *pool = NULL;
    check_t check = { 0 };
    char path[32];
    void *memory;
    size_t lines;

    apr_initialize();
    if (fd < 0 || apr_pool_create(&pool, NULL) != APR_SUCCESS
        || write(fd, data, size) != (ssize_t)size) {
        abort();
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    file.path = path;
    lines = manager_host_file_count(path, pool);
    memory = make_set(&file.names, lines);
    if (manager_host_file_load(&file, &reported, NOW, pool) != APR_SUCCESS
        || manager_host_file_load(&file, &reported, NOW, pool) != APR_EEXIST) {
        abort();
    }
    check.file = &file;
    check.pool = pool;
    if (manager_host_file_each(&file, check_name, &check, pool) != APR_SUCCESS || check.count > lines) {
        abort();
    }
    free(memory);
    close(fd);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
