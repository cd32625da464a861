/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/order_list.h"
#include "test_acme_order.h"

#define OTHER_ORDER(status, names) "{\"status\":\"" status "\",\"expires\":\"2027-01-15T08:00:00Z\"," \
    "\"identifiers\":[" names "],\"authorizations\":[\"$U/authz\"],\"finalize\":\"$U/finalize\"}"
#define DNS(name) "{\"type\":\"dns\",\"value\":\"" name "\"}"

static apr_status_t look_for(fixture_t *f, const char *name)
{
    f->order = NULL;
    base_error_clear(&f->err);
    return acme_order_list_find(&f->order, f->account, name, apr_time_from_sec(1799990000), f->pool, &f->err);
}

static void test_find(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    script_add(f->script, "POST /orders", 200, "Link: </orders?2>;rel=\"next\"\r\n",
               "{\"orders\":[\"$U/o1\",\"$U/o2\",7]}");
    script_add(f->script, "POST /orders?2", 200, "",
               "{\"orders\":[\"/o3\",\"/o4\",\"http://x.example/\",\"/o5\",\"/o6\",\"/o7\"]}");
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("old.example.org")));
    script_add(f->script, "POST /o2", 200, "", OTHER_ORDER("pending", DNS("www.example.org")));
    script_add(f->script, "POST /o3", 200, "", OTHER_ORDER("ready", DNS("WWW.example.org")));
    script_add(f->script, "POST /o4", 200, "", OTHER_ORDER("valid", DNS("www.example.org")));
    script_add(f->script, "POST /o5", 200, "", OTHER_ORDER("pending", DNS("www.example.org") ","
                                                            DNS("example.org")));
    script_add(f->script, "POST /o6", 404, "", "");
    script_add(f->script, "POST /o7", 200, "", "{}");
    assert_int_equal(look_for(f, "www.example.org"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o3"));
    assert_int_equal(f->order->status, ACME_OBJECT_READY);
    assert_int_equal(script_seen(f->script, "POST /o2"), 0);
    assert_int_equal(look_for(f, "old.example.org"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o1"));
    assert_int_equal(look_for(f, "none.example.org"), APR_NOTFOUND);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    /* Long expired when the lost one was placed. */
    assert_int_equal(acme_order_list_find(&f->order, f->account, "www.example.org",
                                          apr_time_from_sec(1800000000), f->pool, &f->err), APR_NOTFOUND);
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
}

/* As the CA spells them: orders for a wildcard have the star, addresses may be written out. */
static void test_find_identifiers(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    script_add(f->script, "POST /orders", 200, "", "{\"orders\":[\"/o1\",\"/o2\",\"/o3\",\"/o4\"]}");
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("example.org")));
    script_add(f->script, "POST /o2", 200, "", OTHER_ORDER("pending", DNS("*.EXAMPLE.org")));
    script_add(f->script, "POST /o3", 200, "", OTHER_ORDER("ready", "{\"type\":\"ip\",\"value\":"
                                                           "\"2001:0DB8:0:0:0:0:0:1\"}"));
    script_add(f->script, "POST /o4", 200, "", OTHER_ORDER("ready", "{\"type\":\"ip\","
                                                           "\"value\":\"192.0.2.1\"}"));
    assert_int_equal(look_for(f, "*.example.org"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o2"));
    assert_int_equal(look_for(f, "example.org"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o1"));
    assert_int_equal(look_for(f, "2001:db8::1"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o3"));
    assert_int_equal(look_for(f, "192.0.2.1"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o4"));
    assert_int_equal(look_for(f, "2001:db8::2"), APR_NOTFOUND);
    assert_int_equal(look_for(f, "*.www.example.org"), APR_NOTFOUND);
}

static void test_find_no_list(void **state)
{
    static const struct {
        int status;
        const char *body;
    } lists[] = {
        { 404, "" }, { 403, "{\"type\":\"" PROBLEM "unauthorized\"}" }, { 200, "{}" }, { 200, "x" },
        { 200, "{\"orders\":7}" }, { 200, "[]" }
    };
    fixture_t *f = *state;
    size_t i;

    script_add(f->script, "POST /acct/1", 405, "", "{\"type\":\"" PROBLEM "malformed\"}");
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\"}");
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        script_drop(f->script, "POST /orders");
        script_add(f->script, "POST /orders", lists[i].status, "", lists[i].body);
        assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
        assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    }
    /* A bare array: smallstep's. */
    script_drop(f->script, "POST /orders");
    script_add(f->script, "POST /orders", 200, "", "[\"/o1\"]");
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("www.example.org")));
    assert_int_equal(look_for(f, "www.example.org"), APR_SUCCESS);
    /* No answer is not the same as no order. */
    script_drop(f->script, "POST /o1");
    script_add(f->script, "POST /o1", 503, "", "<html>");
    assert_int_not_equal(look_for(f, "www.example.org"), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    script_drop(f->script, "POST /orders");
    script_add(f->script, "POST /orders", SCRIPT_LOST, "", "");
    assert_int_not_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void test_find_bounded(void **state)
{
    fixture_t *f = *state;
    const char *list = "{\"orders\":[";
    int i;

    for (i = 0; i < 30; i++) {
        list = apr_psprintf(f->pool, "%s%s\"/o%d\"", list, i > 0 ? "," : "", i % 2);
    }
    list = apr_pstrcat(f->pool, list, "]}", NULL);
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    /* The list has no end, and each order is another's. */
    script_add(f->script, "POST /orders", 200, "Link: </orders>;rel=next\r\n", list);
    script_add(f->script, "POST /o0", 200, "", OTHER_ORDER("pending", DNS("a.example.org")));
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("b.example.org")));
    assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    assert_int_equal(script_seen(f->script, "POST /orders"), ACME_ORDER_LIST_PAGES_MAX);
    assert_int_equal(script_seen(f->script, "POST /o0") + script_seen(f->script, "POST /o1"),
                     ACME_ORDER_LIST_FOUND_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_find),
        WITH_SERVER(test_find_identifiers),
        WITH_SERVER(test_find_no_list),
        WITH_SERVER(test_find_bounded),
    };

    return SERVER_RUN_TESTS(tests);
}
