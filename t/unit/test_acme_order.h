/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file test_acme_order.h
 * What the tests of orders, their list and authorizations have in common: a CA with an account.
 */
#ifndef TEST_ACME_ORDER_H
#define TEST_ACME_ORDER_H

#include "test_acme_script.h"

#define PROBLEM "urn:ietf:params:acme:error:"

typedef script_fixture_t fixture_t;

static inline int set_up(void **state)
{
    fixture_t *f = script_set_up(state);

    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n", "{}");
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    return 0;
}

static inline const char *url(fixture_t *f, const char *path)
{
    return apr_pstrcat(f->pool, f->script->server->url, path, NULL);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, script_tear_down)

#endif
