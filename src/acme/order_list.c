/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/order_list.h"

#include <string.h>

#include <apr_strings.h>

#include "acme/object.h"
#include "acme/poll.h"
#include "base/identifier.h"
#include "base/json.h"
#include "base/log.h"

/* Non-zero when the CA spoke, and had nothing to offer: no list, or an order that is no more. */
static int is_nothing(const base_error_t *err)
{
    return err->kind == BASE_ERROR_OPERATOR || err->kind == BASE_ERROR_GONE;
}

static apr_status_t read_account(acme_account_t *account, acme_client_answer_t *answer, apr_pool_t *pool,
                                 base_error_t *err)
{
    apr_status_t st = acme_account_ensure(account, err);
    const char *url = acme_account_url(account, pool);

    if (st == APR_SUCCESS && url == NULL) {
        st = base_error_set(err, BASE_ERROR_GONE, APR_NOTFOUND, "the account is gone again");
    }
    return st != APR_SUCCESS ? st : acme_poll_read(account, url, answer, pool, err);
}

/* The array of URLs; some CAs send it bare, without the object around it. */
static json_t *read_list(const acme_client_answer_t *answer, apr_pool_t *pool)
{
    const char *wrapped;

    if (answer->json != NULL) {
        return base_json_array(answer->json, "orders");
    }
    wrapped = apr_pstrcat(pool, "{\"orders\":", answer->http->body, "}", NULL);
    return base_json_array(base_json_parse_object(wrapped, strlen(wrapped), pool), "orders");
}

/* All pages, up to a bound: what is wanted stands at the end of the last. */
static apr_status_t read_pages(apr_array_header_t *urls, acme_account_t *account, const char *page,
                               apr_pool_t *pool, base_error_t *err)
{
    acme_client_answer_t answer;
    apr_status_t st = APR_SUCCESS;
    size_t i;
    int n;

    for (n = 0; page != NULL && n < ACME_ORDER_LIST_PAGES_MAX && st == APR_SUCCESS; n++) {
        json_t *list;

        st = acme_poll_read(account, page, &answer, pool, err);
        if (st != APR_SUCCESS) {
            break;
        }
        list = read_list(&answer, pool);
        for (i = 0; i < json_array_size(list); i++) {
            const char *url = acme_http_resolve(answer.http, json_string_value(json_array_get(list, i)),
                                                pool);

            if (url != NULL) {
                APR_ARRAY_PUSH(urls, const char *) = url;
            }
        }
        page = acme_http_link(answer.http, "next", pool);
    }
    return st;
}

/* Non-zero when an order can still bring the certificate that was ordered then. */
static int is_wanted(const acme_order_t *order, const acme_client_answer_t *answer, const char *name,
                     apr_time_t since)
{
    return json_array_size(base_json_array(answer->json, "identifiers")) == 1
           && order->name != NULL && base_identifier_is_same(order->name, name)
           && (order->status == ACME_OBJECT_PENDING || order->status == ACME_OBJECT_READY)
           && order->expires > since;
}

apr_status_t acme_order_list_find(acme_order_t **order, acme_account_t *account, const char *name,
                                  apr_time_t since, apr_pool_t *pool, base_error_t *err)
{
    apr_array_header_t *urls = apr_array_make(pool, ACME_ORDER_LIST_FOUND_MAX, sizeof(const char *));
    acme_client_answer_t answer;
    acme_order_t *found = NULL;
    base_error_t local;
    apr_status_t st;
    int i;

    err = err != NULL ? err : &local;
    st = read_account(account, &answer, pool, err);
    if (st == APR_SUCCESS) {
        st = read_pages(urls, account, acme_object_url(&answer, answer.json, "orders", pool), pool, err);
    }
    if (st != APR_SUCCESS && !is_nothing(err)) {
        return st;
    }
    for (i = urls->nelts; i > 0 && urls->nelts - i < ACME_ORDER_LIST_FOUND_MAX; i--) {
        const char *url = APR_ARRAY_IDX(urls, i - 1, const char *);

        st = acme_poll_read(account, url, &answer, pool, err);
        if (st != APR_SUCCESS && !is_nothing(err)) {
            return st;
        }
        if (st == APR_SUCCESS && acme_order_parse(&found, &answer, url, pool, err) == APR_SUCCESS
            && is_wanted(found, &answer, name, since)) {
            *order = found;
            base_error_clear(err);
            base_log(BASE_LOG_DEBUG, "AC0222", name, "found the order %s again, %s", url,
                     acme_object_status_word(found->status));
            return APR_SUCCESS;
        }
    }
    base_error_clear(err);
    return APR_NOTFOUND;
}
