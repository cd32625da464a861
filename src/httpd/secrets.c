/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/secrets.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>

const char *httpd_secrets_check_file(const char *path, const char *what, int secret, apr_pool_t *pool)
{
    apr_finfo_t info;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_TYPE | APR_FINFO_PROT, pool);

    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv))
        return apr_psprintf(pool, "%s does not exist: write the path of %s", path, what);
    if (rv != APR_SUCCESS)      /* "-t" may be run by a user who cannot look */
        return NULL;
    if (info.filetype != APR_REG)
        return apr_psprintf(pool, "%s is not a file: write the path of %s", path, what);
    if (secret && (info.protection & (APR_FPROT_GREAD | APR_FPROT_GWRITE | APR_FPROT_WREAD
                                      | APR_FPROT_WWRITE)))
        return apr_psprintf(pool, "%s is a secret that others can read: run \"chmod 600 %s\"", path, path);
    return NULL;
}

apr_status_t httpd_secrets_read(char **text, apr_size_t *len, const char *path, apr_pool_t *pool,
                                apr_pool_t *ptemp)
{
    apr_size_t got = HTTPD_SECRETS_MAX;
    apr_file_t *file = NULL;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_OS_DEFAULT, ptemp);

    if (rv != APR_SUCCESS)
        return rv;
    *text = apr_palloc(pool, got + 1);
    rv = apr_file_read_full(file, *text, got, &got);
    apr_file_close(file);
    (*text)[got] = '\0';
    if (len != NULL)
        *len = got;
    return APR_STATUS_IS_EOF(rv) ? APR_SUCCESS : rv;
}
