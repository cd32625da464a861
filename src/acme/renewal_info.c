/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/renewal_info.h"

#include <string.h>

#include <apr_strings.h>

#include "base/json.h"

/* Nobody can do anything about an answer that makes no sense, or is meant for somebody else. */
static apr_status_t refuse(base_error_t *err, const char *url, const char *why)
{
    return base_error_set(err, BASE_ERROR_OPERATOR, APR_EGENERAL, "the CA's renewal information %.300s %s",
                          url, why);
}

static apr_status_t read_info(acme_renewal_info_t *info, const acme_client_answer_t *answer, apr_time_t now,
                              const char *url, apr_pool_t *pool, base_error_t *err)
{
    json_t *window = base_json_object(answer->json, "suggestedWindow");
    const char *explanation = base_json_string(answer->json, "explanationURL");

    memset(info, 0, sizeof(*info));
    if (answer->json == NULL) {
        return refuse(err, url, "is not a JSON object");
    }
    info->start = acme_client_time(base_json_string(window, "start"));
    info->end = acme_client_time(base_json_string(window, "end"));
    if (info->start == 0 || info->end == 0) {
        return refuse(err, url, "has no window with two moments");
    }
    if (info->end <= info->start) {
        return refuse(err, url, "has a window that ends before it begins");
    }
    info->retry_at = answer->retry_at > now ? answer->retry_at : 0;
    if (acme_http_url_is_usable_plain(explanation)) {
        info->explanation = apr_pstrdup(pool, explanation);
    }
    return APR_SUCCESS;
}

apr_status_t acme_renewal_info_fetch(acme_renewal_info_t *info, acme_client_t *client, const char *id,
                                     apr_pool_t *pool, base_error_t *err)
{
    acme_client_directory_t directory;
    acme_client_answer_t answer;
    base_error_t local;
    const char *url;
    apr_status_t st;
    size_t len;

    err = err != NULL ? err : &local;
    st = acme_client_directory(client, &directory, pool, err);
    if (st != APR_SUCCESS) {
        return st;
    }
    base_error_clear(err);
    if (directory.renewal_info == NULL) {
        return APR_ENOTIMPL;
    }
    len = strlen(directory.renewal_info);
    url = apr_pstrcat(pool, directory.renewal_info,
                      len > 0 && directory.renewal_info[len - 1] == '/' ? "" : "/", id, NULL);
    st = acme_client_get(client, url, &answer, pool, err);
    if (st != APR_SUCCESS) {
        /* A page without a problem document is no news of the CA's health here (RFC 9773 section 4.3.3). */
        if (err->kind == BASE_ERROR_CA_DOWN && err->http_status >= 300 && err->http_status < 500) {
            err->kind = BASE_ERROR_OPERATOR;
        }
        return st;
    }
    return read_info(info, &answer, acme_client_now(client), url, pool, err);
}
