/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/host_file.h"

#include <string.h>

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include "base/hostname.h"
#include "base/log.h"

#define WILDCARD "*."
#define LINES_PER_POOL 500      /* the scratch pool is emptied so often */
#define BUFFER_SIZE 65536       /* bytes of the file that are read at once */

/** What is done with a file: one call for each line that is a name or "*.suffix". */
typedef apr_status_t line_fn(void *baton, const char *name);

/** What was found while reading. */
typedef struct tally_t {
    apr_size_t names;
    apr_size_t wrong;           /* lines that are no names */
    int first_wrong;            /* number of the first of them */
} tally_t;

/* --- Reading --- */

static apr_status_t open_file(apr_file_t **file, const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;
    apr_status_t rv = apr_file_open(file, path, APR_FOPEN_READ | APR_FOPEN_BUFFERED | APR_FOPEN_NONBLOCK,
                                    APR_OS_DEFAULT, pool);

    if (rv != APR_SUCCESS)
        return rv;
    apr_file_buffer_set(*file, apr_palloc(pool, BUFFER_SIZE), BUFFER_SIZE);
    /* A pipe would never end, and a directory has no lines. */
    rv = apr_file_info_get(&info, APR_FINFO_TYPE | APR_FINFO_SIZE, *file);
    if (rv == APR_SUCCESS && info.filetype != APR_REG)
        rv = APR_EBADF;
    if (rv == APR_SUCCESS && info.size > MANAGER_HOST_FILE_BYTES_MAX)
        rv = APR_ENOSPC;
    if (rv != APR_SUCCESS)
        apr_file_close(*file);
    return rv;
}

/* The next line without comment and blanks; one that is too long is cut, so it is no name.
 * @return APR_EOF at the end */
static apr_status_t read_line(char line[MANAGER_HOST_FILE_LINE_MAX], apr_file_t *file)
{
    apr_size_t len = 0, begin;
    apr_status_t rv;
    char c;

    while ((rv = apr_file_getc(&c, file)) == APR_SUCCESS && c != '\n')
        if (len < MANAGER_HOST_FILE_LINE_MAX - 1)
            line[len++] = c ? c : ' ';
    if (rv != APR_SUCCESS && (rv != APR_EOF || len == 0))
        return rv;
    line[len] = '\0';
    line[strcspn(line, "#")] = '\0';
    len = strlen(line);
    while (len > 0 && apr_isspace(line[len - 1]))
        line[--len] = '\0';
    begin = strspn(line, " \t");
    memmove(line, line + begin, len - begin + 1);
    return APR_SUCCESS;
}

/* A line as it stands in the set: A-labels, perhaps with "*." before. NULL when it is no name. */
static const char *read_name(const char *line, apr_pool_t *pool)
{
    int wildcard = strncmp(line, WILDCARD, 2) == 0;
    const char *name = NULL;

    /* A suffix may be a top level domain of one's own, which is no host name: not supported, as no CA
     * would issue below it. */
    if (base_hostname_from_config(&name, wildcard ? line + 2 : line, pool) != NULL)
        return NULL;
    return wildcard ? apr_pstrcat(pool, WILDCARD, name, NULL) : name;
}

static apr_status_t read_all(const char *path, line_fn *fn, void *baton, tally_t *tally, apr_pool_t *pool)
{
    char line[MANAGER_HOST_FILE_LINE_MAX];
    apr_pool_t *scratch = NULL;
    apr_file_t *file = NULL;
    int number = 0;
    apr_status_t rv = open_file(&file, path, pool);

    memset(tally, 0, sizeof(*tally));
    if (rv != APR_SUCCESS)
        return rv;
    rv = apr_pool_create(&scratch, pool);
    while (rv == APR_SUCCESS && (rv = read_line(line, file)) == APR_SUCCESS) {
        const char *name;

        if (++number % LINES_PER_POOL == 0)
            apr_pool_clear(scratch);
        if (line[0] == '\0')
            continue;
        if ((name = read_name(line, scratch)) != NULL) {
            tally->names++;
            rv = fn(baton, name);
        }
        else if (tally->wrong++ == 0) {
            tally->first_wrong = number;
        }
    }
    if (scratch != NULL)
        apr_pool_destroy(scratch);
    apr_file_close(file);
    return rv == APR_EOF ? APR_SUCCESS : rv;
}

/* --- What it was filled from --- */

/* Never 0, which is the stamp of a set that was not filled. */
static apr_status_t find_stamp(apr_uint32_t *stamp, const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;
    char text[80];
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_SIZE | APR_FINFO_MTIME | APR_FINFO_INODE, pool);

    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE)
        return rv;
    apr_snprintf(text, sizeof(text), "%" APR_OFF_T_FMT " %" APR_TIME_T_FMT " %" APR_UINT64_T_FMT, info.size,
                 info.mtime, (apr_uint64_t)info.inode);
    *stamp = base_hostname_hash(text);
    return APR_SUCCESS;
}

static apr_status_t count_line(void *baton, const char *name)
{
    (void)baton;
    (void)name;
    return APR_SUCCESS;
}

apr_size_t manager_host_file_count(const char *path, apr_pool_t *pool)
{
    tally_t tally;

    return read_all(path, count_line, NULL, &tally, pool) == APR_SUCCESS ? tally.names : 0;
}

/* --- Loading --- */

typedef struct filling_t {
    shared_names_t *names;
    apr_uint32_t token;
    apr_size_t left_out;
} filling_t;

static apr_status_t fill_line(void *baton, const char *name)
{
    filling_t *filling = baton;

    filling->left_out += !shared_names_put(filling->names, filling->token, name);
    return APR_SUCCESS;
}

static void report_load(const manager_host_file_t *file, const tally_t *tally, apr_size_t left_out)
{
    base_log(BASE_LOG_NOTICE, "AC0160", NULL, "%s: %" APR_SIZE_T_FMT " name%s read; handshakes go by them "
             "from now on", file->path, tally->names, tally->names == 1 ? "" : "s");
    if (tally->wrong > 0)
        base_log(BASE_LOG_WARNING, "AC0162", NULL, "%s:%d: this line is no host name%s; it is skipped until "
                 "the file changes", file->path, tally->first_wrong,
                 tally->wrong > 1 ? ", and more are none" : "");
    if (left_out > 0)
        base_log(BASE_LOG_WARNING, "AC0163", NULL, "%s: %" APR_SIZE_T_FMT " names more than there is room "
                 "for; they are not allowed until a graceful restart makes more", file->path, left_out);
}

static apr_status_t report_trouble(const manager_host_file_t *file, apr_status_t rv, apr_status_t *reported)
{
    char text[120];

    if (rv != *reported)
        base_log(BASE_LOG_WARNING, "AC0161", NULL, "%s cannot be read: %s; names that were read before stay "
                 "allowed, and it is tried again", file->path, apr_strerror(rv, text, sizeof(text)));
    *reported = rv;
    return rv;
}

apr_status_t manager_host_file_load(const manager_host_file_t *file, apr_status_t *reported,
                                    apr_time_t now, apr_pool_t *pool)
{
    filling_t filling = { file->names, 0, 0 };
    apr_uint32_t stamp = 0;
    tally_t tally;
    apr_status_t rv = find_stamp(&stamp, file->path, pool);

    if (rv != APR_SUCCESS)
        return report_trouble(file, rv, reported);
    if (stamp == shared_names_stamp(file->names))
        return APR_EEXIST;
    filling.token = shared_names_begin(file->names, now);
    if (filling.token == 0)
        return APR_EBUSY;
    /* With the stamp of before: what changes while it is read is read again the next time. */
    rv = read_all(file->path, fill_line, &filling, &tally, pool);
    if (rv != APR_SUCCESS) {
        shared_names_abandon(file->names, filling.token);
        return report_trouble(file, rv, reported);
    }
    shared_names_commit(file->names, filling.token, stamp);
    *reported = APR_SUCCESS;
    report_load(file, &tally, filling.left_out);
    return APR_SUCCESS;
}

/* --- Questions --- */

/* "*." and the name without its first label. */
static const char *wildcard_of(const char *name, char wildcard[BASE_HOSTNAME_SIZE + 2])
{
    const char *dot = strchr(name, '.');

    apr_snprintf(wildcard, BASE_HOSTNAME_SIZE + 2, "*%s", dot ? dot : ".");
    return wildcard;
}

int manager_host_file_allows(const manager_host_file_t *file, const char *name)
{
    char wildcard[BASE_HOSTNAME_SIZE + 2];

    return file->names != NULL
        && (shared_names_find(file->names, name) == SHARED_NAMES_YES
            || shared_names_find(file->names, wildcard_of(name, wildcard)) == SHARED_NAMES_YES);
}

typedef struct search_t {
    const char *name;
    const char *wildcard;
    int found;
} search_t;

static apr_status_t compare_line(void *baton, const char *name)
{
    search_t *search = baton;

    search->found = strcmp(name, search->name) == 0 || strcmp(name, search->wildcard) == 0;
    return search->found ? APR_EOF : APR_SUCCESS;
}

int manager_host_file_lists(const manager_host_file_t *file, const char *name, apr_pool_t *pool)
{
    char wildcard[BASE_HOSTNAME_SIZE + 2];
    search_t search = { name, wildcard_of(name, wildcard), 0 };
    tally_t tally;

    if (read_all(file->path, compare_line, &search, &tally, pool) != APR_SUCCESS)
        return manager_host_file_allows(file, name);
    return search.found;
}

typedef struct visit_t {
    apr_status_t (*fn)(void *baton, const char *name);
    void *baton;
} visit_t;

static apr_status_t visit_line(void *baton, const char *name)
{
    visit_t *visit = baton;

    return name[0] == '*' ? APR_SUCCESS : visit->fn(visit->baton, name);
}

apr_status_t manager_host_file_each(const manager_host_file_t *file,
                                    apr_status_t (*fn)(void *baton, const char *name), void *baton,
                                    apr_pool_t *pool)
{
    visit_t visit = { fn, baton };
    tally_t tally;

    return read_all(file->path, visit_line, &visit, &tally, pool);
}
