/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/placeholder.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_file_io.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>

#include "base/error.h"
#include "crypto/placeholder.h"
#include "httpd/config.h"

APLOG_USE_MODULE(autocert);

#define RETAINED_KEY "mod_autocert-placeholders-1"

/** PEM texts by vhost, of the last pass and of this one; in the process pool. */
typedef struct retained_t {
    apr_pool_t *pool;           /* of the current pass */
    apr_hash_t *pems;
    apr_pool_t *last_pool;
    apr_hash_t *last_pems;
} retained_t;

static struct {
    char *directory;            /* of this pass's files, NULL before the first */
    apr_array_header_t *paths;
} files;

static retained_t *get_retained(void)
{
    retained_t *retained = ap_retained_data_get(RETAINED_KEY);

    return retained ? retained : ap_retained_data_create(RETAINED_KEY, sizeof(*retained));
}

static apr_status_t forget_files(void *data)
{
    (void)data;
    httpd_placeholder_remove_files();
    files.paths = NULL;
    return APR_SUCCESS;
}

void httpd_placeholder_begin(apr_pool_t *pconf)
{
    retained_t *retained = get_retained();

    if (retained->last_pool != NULL)
        apr_pool_destroy(retained->last_pool);
    retained->last_pool = retained->pool;
    retained->last_pems = retained->pems;
    apr_pool_create(&retained->pool, apr_pool_parent_get(pconf));    /* the process pool */
    retained->pems = apr_hash_make(retained->pool);
    files.directory = NULL;
    files.paths = apr_array_make(pconf, 16, sizeof(const char *));
    apr_pool_cleanup_register(pconf, NULL, forget_files, apr_pool_cleanup_null);
}

void httpd_placeholder_remove_files(void)
{
    int i;

    if (files.directory == NULL || files.paths == NULL)
        return;
    for (i = 0; i < files.paths->nelts; i++)
        unlink(APR_ARRAY_IDX(files.paths, i, const char *));
    apr_array_clear(files.paths);
    rmdir(files.directory);
    files.directory = NULL;
}

/* A directory that only we can enter: in httpd's runtime directory, else in the system's. */
static int make_directory(apr_pool_t *pconf)
{
    const char *places[2] = { ap_runtime_dir_relative(pconf, ""), NULL };
    int i;

    if (files.directory != NULL)
        return 1;
    if (apr_temp_dir_get(&places[1], pconf) != APR_SUCCESS)
        places[1] = "/tmp";
    for (i = 0; i < 2; i++) {
        char *path = apr_psprintf(pconf, "%s/autocert-XXXXXX", places[i] ? places[i] : "");

        if (places[i] != NULL && mkdtemp(path) != NULL) {
            files.directory = path;
            return 1;
        }
    }
    return 0;
}

/* What tells a vhost from others, over restarts: its address and its names. */
static const char *identify(const server_rec *s, const apr_array_header_t *names, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s %d %s", s->addrs && s->addrs->virthost ? s->addrs->virthost : "",
                        s->addrs ? (int)s->addrs->host_port : 0, apr_array_pstrcat(pool, names, ' '));
}

static const char *get_pem(const server_rec *s, const apr_array_header_t *names, apr_pool_t *pconf,
                           base_error_t *err)
{
    retained_t *retained = get_retained();
    const char *key = identify(s, names, pconf), *known;
    char *pem = NULL;
    apr_size_t len = 0;

    if ((known = apr_hash_get(retained->pems, key, APR_HASH_KEY_STRING)) != NULL)
        return known;
    known = retained->last_pems ? apr_hash_get(retained->last_pems, key, APR_HASH_KEY_STRING) : NULL;
    /* Never made in the retained pool itself: it outlives this module's code, which may be
     * what a clean-up of that pool calls. */
    if (known == NULL
        && crypto_placeholder_make(&pem, &len, names, apr_time_now(), pconf, err) != APR_SUCCESS)
        return NULL;
    pem = apr_pstrdup(retained->pool, known ? known : pem);
    apr_hash_set(retained->pems, apr_pstrdup(retained->pool, key), APR_HASH_KEY_STRING, pem);
    return pem;
}

static apr_status_t write_file(const char *path, const char *text, apr_pool_t *pool)
{
    apr_file_t *file = NULL;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_EXCL,
                                    APR_FPROT_UREAD | APR_FPROT_UWRITE, pool);

    if (rv != APR_SUCCESS)
        return rv;
    rv = apr_file_write_full(file, text, strlen(text), NULL);
    apr_file_close(file);
    return rv;
}

const char *httpd_placeholder_file(server_rec *s, const apr_array_header_t *names, apr_pool_t *pconf)
{
    base_error_t err;
    const char *pem, *path = NULL;
    apr_status_t rv = APR_EGENERAL;

    base_error_clear(&err);
    if ((pem = get_pem(s, names, pconf, &err)) != NULL) {
        rv = make_directory(pconf) ? APR_SUCCESS : APR_FROM_OS_ERROR(apr_get_os_error());
        if (rv == APR_SUCCESS) {
            path = apr_psprintf(pconf, "%s/%d.pem", files.directory, files.paths->nelts);
            APR_ARRAY_PUSH(files.paths, const char *) = path;
            rv = write_file(path, pem, pconf);
        }
    }
    if (rv == APR_SUCCESS)
        return path;
    ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "AC0035: autocert: %s: no placeholder certificate could be "
                 "made: %s; mod_ssl will refuse this virtual host", APR_ARRAY_IDX(names, 0, const char *),
                 err.kind != BASE_ERROR_NONE ? err.detail : "its file cannot be written");
    return NULL;
}
