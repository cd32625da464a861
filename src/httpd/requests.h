/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/requests.h
 * What is answered before any handler, authorization or rewriting: challenges, the page behind
 * a placeholder, the redirect to https. Hooks of post_read_request, on the request's thread.
 */
#ifndef HTTPD_REQUESTS_H
#define HTTPD_REQUESTS_H

#include <httpd.h>

/** http-01 (RFC 8555 section 8.3): 200 with the key authorization, DECLINED for every path or token
 * that is not ours. Reads the cache. REALLY_FIRST. */
int httpd_requests_answer_challenge(request_rec *r);

/** 503 with Retry-After on a connection with the placeholder: the site behind it must not be
 * shown under a certificate that proves nothing. */
int httpd_requests_explain_placeholder(request_rec *r);

/** AutocertRedirect; after mod_setenvif, which may have set autocert-no-redirect. */
int httpd_requests_redirect(request_rec *r);

/** Look up what mod_ssl offers; optional_fn_retrieve. */
void httpd_requests_retrieve(void);

#endif
