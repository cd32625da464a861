/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/requests.h"

#include <string.h>

#include <apr_buckets.h>
#include <apr_optional.h>
#include <apr_strings.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_ssl.h>
#include <util_filter.h>

#include "base/identifier.h"
#include "challenge/http01.h"
#include "httpd/certificates.h"
#include "httpd/config.h"
#include "httpd/runtime.h"
#include "httpd/tls.h"

#define RETRY_AFTER "10"        /* seconds, on the page behind a placeholder */

static APR_OPTIONAL_FN_TYPE(ssl_is_https) *is_https;

void httpd_requests_retrieve(void)
{
    is_https = APR_RETRIEVE_OPTIONAL_FN(ssl_is_https);
}

/* A complete answer from here: nothing that comes later can change it. */
static int send_text(request_rec *r, int status, const char *type, const char *text)
{
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);

    r->status = status;
    ap_set_content_type(r, type);
    ap_set_content_length(r, (apr_off_t)strlen(text));
    if (!r->header_only)
        APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_pool_create(text, strlen(text), r->pool,
                                                           r->connection->bucket_alloc));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(r->connection->bucket_alloc));
    ap_pass_brigade(r->output_filters, bb);
    return DONE;
}

int httpd_requests_answer_challenge(request_rec *r)
{
    cache_t *cache = httpd_runtime()->cache;
    const char *token, *key_authorization = NULL;

    if (cache == NULL || r->method_number != M_GET || r->parsed_uri.path == NULL)
        return DECLINED;
    token = challenge_http01_token(r->parsed_uri.path);
    if (token == NULL
        || challenge_http01_answer(&key_authorization, cache, token, r->pool) != APR_SUCCESS)
        return DECLINED;
    return send_text(r, HTTP_OK, "text/plain", key_authorization);
}

int httpd_requests_explain_placeholder(request_rec *r)
{
    char unicode[BASE_IDENTIFIER_UNICODE_SIZE];
    const char *name = NULL, *host;

    if (!httpd_tls_is_placeholder(r->connection, &name))
        return DECLINED;
    host = name ? name : "this server";
    if (name != NULL && base_identifier_unicode(unicode, name) != NULL)
        host = apr_pstrcat(r->pool, unicode, " (", name, ")", NULL);
    host = ap_escape_html(r->pool, host);
    apr_table_setn(r->headers_out, "Retry-After", RETRY_AFTER);
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    return send_text(r, HTTP_SERVICE_UNAVAILABLE, "text/html; charset=utf-8",
                     apr_pstrcat(r->pool, "<!DOCTYPE html>\n<html lang=\"en\"><head><title>503 No "
                                 "certificate yet</title></head>\n<body><h1>No certificate yet</h1>\n"
                                 "<p>The certificate for <b>", host, "</b> is being obtained. Please "
                                 "try again in a few seconds.</p></body></html>\n", NULL));
}

/* A name, or an address, which httpd has freed of its brackets. */
static int spell_host(char spelled[BASE_HOSTNAME_SIZE], const char *host)
{
    unsigned char address[16];
    int len = base_identifier_address(host, address);

    if (len > 0)
        base_identifier_from_address(spelled, address, len);
    return len > 0 || base_hostname_from_client(spelled, host, strlen(host));
}

/* The managed name or address (in brackets where a URL needs them) a plain request is for, when its
 * certificate is here and from a CA that browsers may trust; NULL otherwise. */
static const char *find_secure_name(request_rec *r)
{
    const serve_certs_entry_t *entry;
    char spelled[BASE_HOSTNAME_SIZE];
    int secure;

    if (r->hostname == NULL || !spell_host(spelled, r->hostname))
        return NULL;
    entry = httpd_certificates_find(spelled, apr_time_now());
    secure = entry != NULL && !entry->test;
    httpd_certificates_release(entry);
    if (!secure)
        return NULL;
    return strchr(spelled, ':') != NULL ? apr_pstrcat(r->pool, "[", spelled, "]", NULL)
                                        : apr_pstrdup(r->pool, spelled);
}

int httpd_requests_redirect(request_rec *r)
{
    httpd_config_redirect_t kind = httpd_config_redirect(r->server);
    const char *name, *path = r->parsed_uri.path, *query = r->parsed_uri.query;
    int permanent = kind == HTTPD_CONFIG_REDIRECT_PERMANENT;

    if (kind == HTTPD_CONFIG_REDIRECT_OFF || (is_https != NULL && is_https(r->connection))
        || apr_table_get(r->subprocess_env, "autocert-no-redirect") != NULL
        || path == NULL || path[0] != '/' || (name = find_secure_name(r)) == NULL)
        return DECLINED;
    apr_table_setn(r->headers_out, "Location",
                   apr_pstrcat(r->pool, "https://", name, path, query ? "?" : "", query ? query : "", NULL));
    if (r->method_number == M_GET)
        return permanent ? HTTP_MOVED_PERMANENTLY : HTTP_MOVED_TEMPORARILY;
    return permanent ? HTTP_PERMANENT_REDIRECT : HTTP_TEMPORARY_REDIRECT;
}
