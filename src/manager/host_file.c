/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/host_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_strings.h>

#include "base/hostname.h"
#include "base/log.h"

#define READ_SIZE 16384                 /* bytes read at once */
#define CLEAR_EVERY 256                 /* lines whose names share a pool */
#define SHOWN_MAX 128                   /* bytes with the NUL of a line in the log */
#define STAMP_TEXT_SIZE 96
#define WILDCARD "*."
#define WILDCARD_LEN (sizeof(WILDCARD) - 1)
#define BYTE_ORDER_MARK "\xef\xbb\xbf"  /* some editors begin UTF-8 files with it */
#define BYTE_ORDER_MARK_LEN (sizeof(BYTE_ORDER_MARK) - 1)

/* A file that is read line by line. */
typedef struct lines_t {
    int fd;
    apr_off_t bytes;                    /* read so far: the file may grow meanwhile */
    unsigned long number;               /* of the line, from 1 */
    size_t at, end;                     /* what is left in the buffer */
    size_t len;                         /* of the line */
    int is_cut;                         /* it was longer than what is kept of it */
    char line[MANAGER_HOST_FILE_LINE_MAX + 1];
    char buffer[READ_SIZE];
} lines_t;

/* What a line says. */
typedef struct entry_t {
    unsigned long number;
    const char *text;
    const char *name;                   /* as sets have it: A-labels, or "*." and such a name */
    const char *why;                    /* it is no name: the end of a sentence; NULL: it is one */
} entry_t;

/* Anything but APR_SUCCESS ends the reading and is what it returns. */
typedef apr_status_t visit_fn(void *baton, const entry_t *entry);

/* ---- reading ---- */

/* Open for reading. Not to be held up by a FIFO is what O_NONBLOCK is for. */
static apr_status_t open_file(const char *path, int *fd, struct stat *st)
{
    apr_status_t rv = APR_SUCCESS;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0) {
        return errno;
    }
    if (fstat(*fd, st) != 0) {
        rv = errno;
    }
    else if (!S_ISREG(st->st_mode)) {
        rv = S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
    }
    else if (st->st_size > MANAGER_HOST_FILE_BYTES_MAX) {
        rv = EFBIG;
    }
    if (rv != APR_SUCCESS) {
        close(*fd);
        *fd = -1;
    }
    return rv;
}

static apr_status_t fill_buffer(lines_t *lines)
{
    ssize_t n;

    do {
        n = read(lines->fd, lines->buffer, READ_SIZE);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return n < 0 ? errno : APR_EOF;
    }
    lines->bytes += n;
    if (lines->bytes > MANAGER_HOST_FILE_BYTES_MAX) {
        return EFBIG;
    }
    lines->at = 0;
    lines->end = (size_t)n;
    return APR_SUCCESS;
}

/* @return APR_SUCCESS with a line, which may be empty; APR_EOF behind the last one */
static apr_status_t read_line(lines_t *lines)
{
    int begun = 0;
    const char *newline = NULL;

    lines->len = 0;
    lines->is_cut = 0;
    while (newline == NULL) {
        const char *text;
        size_t n, room = MANAGER_HOST_FILE_LINE_MAX - lines->len;

        if (lines->at == lines->end) {
            apr_status_t rv = fill_buffer(lines);

            if (rv == APR_EOF && begun) {
                break;
            }
            if (rv != APR_SUCCESS) {
                return rv;
            }
        }
        begun = 1;
        text = lines->buffer + lines->at;
        newline = memchr(text, '\n', lines->end - lines->at);
        n = newline != NULL ? (size_t)(newline - text) : lines->end - lines->at;
        lines->at += n + (newline != NULL);
        if (n > room) {
            lines->is_cut = 1;
            n = room;
        }
        memcpy(lines->line + lines->len, text, n);
        lines->len += n;
    }
    lines->line[lines->len] = '\0';
    lines->number++;
    return APR_SUCCESS;
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* @return non-zero when something stands in the line, which is changed; name and why may be in the
 * pool */
static int parse_line(lines_t *lines, entry_t *entry, apr_pool_t *pool)
{
    char *text = lines->line, *end = lines->line + lines->len;
    char *comment = memchr(text, '#', lines->len);

    if (lines->number == 1 && strncmp(text, BYTE_ORDER_MARK, BYTE_ORDER_MARK_LEN) == 0) {
        text += BYTE_ORDER_MARK_LEN;
    }
    if (comment != NULL) {
        end = comment;
    }
    while (end > text && is_blank(end[-1])) {
        end--;
    }
    while (text < end && is_blank(*text)) {
        text++;
    }
    *end = '\0';
    if (text == end) {
        return 0;
    }
    entry->number = lines->number;
    entry->text = text;
    entry->name = NULL;
    if (lines->is_cut && comment == NULL) {
        entry->why = "is longer than " APR_STRINGIFY(MANAGER_HOST_FILE_LINE_MAX) " bytes";
    }
    else if (memchr(text, '\0', (size_t)(end - text)) != NULL) {
        entry->why = "has a NUL byte";
    }
    else if (strncmp(text, WILDCARD, WILDCARD_LEN) == 0) {
        entry->why = base_hostname_from_config(&entry->name, text + WILDCARD_LEN, pool);
        if (entry->why == NULL) {
            entry->name = apr_pstrcat(pool, WILDCARD, entry->name, NULL);
        }
        else {
            entry->why = apr_pstrcat(pool, entry->why, " behind \"" WILDCARD "\"", NULL);
        }
    }
    else {
        entry->why = base_hostname_from_config(&entry->name, text, pool);
    }
    return 1;
}

/* Call visit for each line in which something stands. */
static apr_status_t visit_lines(int fd, visit_fn *visit, void *baton, apr_pool_t *parent)
{
    apr_pool_t *pool = NULL, *names = NULL;
    lines_t *lines;
    entry_t entry = { 0 };
    apr_status_t rv = apr_pool_create(&pool, parent);

    if (rv == APR_SUCCESS) {
        rv = apr_pool_create(&names, pool);
    }
    if (rv != APR_SUCCESS) {
        goto leave;
    }
    lines = apr_pcalloc(pool, sizeof(*lines));
    lines->fd = fd;
    while ((rv = read_line(lines)) == APR_SUCCESS) {
        if (parse_line(lines, &entry, names) && (rv = visit(baton, &entry)) != APR_SUCCESS) {
            goto leave;
        }
        if (lines->number % CLEAR_EVERY == 0) {
            apr_pool_clear(names);
        }
    }
    if (rv == APR_EOF) {
        rv = APR_SUCCESS;
    }
leave:
    if (pool != NULL) {
        apr_pool_destroy(pool);
    }
    return rv;
}

apr_size_t manager_host_file_count(const char *path, apr_pool_t *pool)
{
    lines_t *lines = apr_pcalloc(pool, sizeof(*lines));
    struct stat st;
    apr_status_t rv;

    if (open_file(path, &lines->fd, &st) != APR_SUCCESS) {
        return 0;
    }
    do {
        rv = read_line(lines);
    } while (rv == APR_SUCCESS);
    close(lines->fd);
    return rv == APR_EOF ? lines->number : 0;
}

/* ---- filling the set ---- */

typedef struct filling_t {
    shared_names_t *names;
    apr_uint32_t claim;
    unsigned long read;                 /* names */
    unsigned long homeless;             /* of them without room */
    unsigned long bad;                  /* lines */
    unsigned long first_number;         /* of the first bad one */
    char first_text[SHOWN_MAX];
    char first_why[SHOWN_MAX];
} filling_t;

static apr_status_t put_entry(void *baton, const entry_t *entry)
{
    filling_t *filling = baton;

    if (entry->why == NULL) {
        filling->read++;
        if (!shared_names_put(filling->names, filling->claim, entry->name)) {
            filling->homeless++;
        }
    }
    else if (filling->bad++ == 0) {
        filling->first_number = entry->number;
        apr_cpystrn(filling->first_why, entry->why, sizeof(filling->first_why));
        base_error_copy_text(filling->first_text, sizeof(filling->first_text), entry->text);
    }
    return APR_SUCCESS;
}

/* What tells one state of the file from another; never 0. */
static apr_uint32_t make_stamp(const struct stat *st)
{
    char text[STAMP_TEXT_SIZE];

    snprintf(text, sizeof(text), "%lld %lld.%ld %llu", (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, (long)st->st_mtim.tv_nsec, (unsigned long long)st->st_ino);
    return base_hostname_hash(text);
}

static const char *plural(unsigned long n)
{
    return n == 1 ? "" : "s";
}

static void log_filling(const manager_host_file_t *file, const filling_t *filling)
{
    base_log(BASE_LOG_NOTICE, "AC0160", NULL, "host file %s: %lu name%s read; certificates for them "
             "are obtained %s", file->path, filling->read, plural(filling->read),
             file->preload ? "ahead of visitors" : "when visitors come");
    if (filling->bad > 0) {
        base_log(BASE_LOG_WARNING, "AC0162", NULL, "host file %s: %lu line%s cannot be used, the first "
                 "is line %lu: \"%s\" %s; the other lines are used", file->path, filling->bad,
                 plural(filling->bad), filling->first_number, filling->first_text, filling->first_why);
    }
    if (filling->homeless > 0) {
        base_log(BASE_LOG_WARNING, "AC0163", NULL, "host file %s: there is no room for %lu of its %lu "
                 "names; until a graceful restart makes more, any name is taken for listed at first "
                 "and looked up in the file before its certificate is ordered", file->path,
                 filling->homeless, filling->read);
    }
}

static void log_trouble(const manager_host_file_t *file, apr_status_t rv)
{
    char words[SHOWN_MAX];

    if (rv == EFBIG) {
        apr_snprintf(words, sizeof(words), "it is larger than %d MB",
                     MANAGER_HOST_FILE_BYTES_MAX / (1024 * 1024));
    }
    else if (rv == EINVAL) {
        apr_cpystrn(words, "it is no regular file", sizeof(words));
    }
    else {
        apr_strerror(rv, words, sizeof(words));
    }
    base_log(BASE_LOG_WARNING, "AC0161", NULL, "host file %s cannot be read: %s; %s", file->path, words,
             shared_names_stamp(file->names) != 0
             ? "the names that were read from it before stay allowed"
             : "it allows no name until it can be read");
}

/* @return as manager_host_file_load() does; nothing is logged about trouble */
static apr_status_t load(const manager_host_file_t *file, apr_time_t now, apr_pool_t *pool)
{
    filling_t filling = { 0 };
    struct stat st;
    apr_uint32_t stamp;
    apr_status_t rv;
    int fd;

    rv = open_file(file->path, &fd, &st);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    /* Of the time before reading: if somebody writes meanwhile, the next call reads again. */
    stamp = make_stamp(&st);
    if (stamp == shared_names_stamp(file->names)) {
        rv = APR_EEXIST;
        goto leave;
    }
    filling.names = file->names;
    filling.claim = shared_names_begin(file->names, now);
    if (filling.claim == 0) {
        rv = APR_EBUSY;
        goto leave;
    }
    rv = visit_lines(fd, put_entry, &filling, pool);
    if (rv != APR_SUCCESS) {
        shared_names_abandon(file->names, filling.claim);
        goto leave;
    }
    shared_names_commit(file->names, filling.claim, stamp);
    if (shared_names_stamp(file->names) != stamp) {
        rv = APR_EBUSY;     /* it took so long that another writer took over */
        goto leave;
    }
    log_filling(file, &filling);
leave:
    close(fd);
    return rv;
}

apr_status_t manager_host_file_load(const manager_host_file_t *file, apr_status_t *reported,
                                    apr_time_t now, apr_pool_t *pool)
{
    apr_status_t rv;

    if (file->names == NULL) {
        return APR_ENOSHMAVAIL;
    }
    rv = load(file, now, pool);
    if (rv == APR_EBUSY) {
        return rv;
    }
    if (rv == APR_SUCCESS || rv == APR_EEXIST) {
        *reported = APR_SUCCESS;
        return rv;
    }
    if (rv != *reported) {
        log_trouble(file, rv);
        *reported = rv;
    }
    return rv;
}

/* ---- asking ---- */

/* "*." and what stands behind the first dot; a name without a dot gives "*.", which no file lists. */
static void make_wildcard(char wildcard[WILDCARD_LEN + BASE_HOSTNAME_SIZE], const char *name)
{
    const char *dot = strchr(name, '.');

    memcpy(wildcard, WILDCARD, WILDCARD_LEN);
    apr_cpystrn(wildcard + WILDCARD_LEN, dot != NULL ? dot + 1 : "", BASE_HOSTNAME_SIZE);
}

/* UNKNOWN when it is so for the name or its wildcard and neither is in the set. */
static shared_names_answer_t find(const manager_host_file_t *file, const char *name)
{
    char wildcard[WILDCARD_LEN + BASE_HOSTNAME_SIZE];
    shared_names_answer_t answer;

    if (file->names == NULL) {
        return SHARED_NAMES_NO;
    }
    answer = shared_names_find(file->names, name);
    if (answer != SHARED_NAMES_YES) {
        make_wildcard(wildcard, name);
        if (shared_names_find(file->names, wildcard) == SHARED_NAMES_YES) {
            answer = SHARED_NAMES_YES;
        }
    }
    return answer;
}

int manager_host_file_allows(const manager_host_file_t *file, const char *name)
{
    shared_names_answer_t answer = find(file, name);

    if (answer != SHARED_NAMES_UNKNOWN) {
        return answer == SHARED_NAMES_YES;
    }
    /* A set that has more names than room must not take certificates out of service. One that was
     * filled for the first time just now is asked again. */
    return shared_names_stamp(file->names) != 0 && find(file, name) != SHARED_NAMES_NO;
}

typedef struct search_t {
    const char *name;
    char wildcard[WILDCARD_LEN + BASE_HOSTNAME_SIZE];
    int found;
} search_t;

static apr_status_t compare_entry(void *baton, const entry_t *entry)
{
    search_t *search = baton;

    search->found = entry->why == NULL && (strcmp(entry->name, search->name) == 0
                                           || strcmp(entry->name, search->wildcard) == 0);
    return search->found ? APR_EEXIST : APR_SUCCESS;
}

int manager_host_file_lists(const manager_host_file_t *file, const char *name, apr_pool_t *pool)
{
    search_t search = { name, "", 0 };
    struct stat st;
    apr_status_t rv;
    int fd;

    make_wildcard(search.wildcard, name);
    rv = open_file(file->path, &fd, &st);
    if (rv == APR_SUCCESS) {
        rv = visit_lines(fd, compare_entry, &search, pool);
        close(fd);
    }
    if (rv == APR_SUCCESS || search.found) {
        return search.found;
    }
    return find(file, name) == SHARED_NAMES_YES;
}

typedef struct each_t {
    apr_status_t (*fn)(void *baton, const char *name);
    void *baton;
} each_t;

static apr_status_t hand_entry(void *baton, const entry_t *entry)
{
    const each_t *each = baton;

    if (entry->why != NULL || strncmp(entry->name, WILDCARD, WILDCARD_LEN) == 0) {
        return APR_SUCCESS;
    }
    return each->fn(each->baton, entry->name);
}

apr_status_t manager_host_file_each(const manager_host_file_t *file,
                                    apr_status_t (*fn)(void *baton, const char *name), void *baton,
                                    apr_pool_t *pool)
{
    each_t each = { fn, baton };
    struct stat st;
    int fd;
    apr_status_t rv = open_file(file->path, &fd, &st);

    if (rv == APR_SUCCESS) {
        rv = visit_lines(fd, hand_entry, &each, pool);
        close(fd);
    }
    return rv;
}
