/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "challenge/http01.h"
#include "run.h"
#include "scratch_cache.h"

#define TOKEN "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define KEYAUTH TOKEN ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

static void test_token_of_a_path(void **state)
{
    static const char *const bad[] = {
        "", "/", "/.well-known/acme-challenge", "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/a/", "/.well-known/acme-challenge/a/b",
        "/.well-known/acme-challenge//a", "/.well-known/acme-challenge/../a",
        "/.well-known/acme-challenge/a%41", "/.well-known/acme-challenge/a.b",
        "/.well-known/acme-challenge/a=", "/.well-known/acme-challenge/a+http-01",
        "/.well-known/acme-challenge/a?b", "/.well-known/acme-challenge/a b",
        "/.WELL-KNOWN/acme-challenge/a", "//.well-known/acme-challenge/a",
        "x/.well-known/acme-challenge/a"
    };
    const char *path = CHALLENGE_HTTP01_PREFIX TOKEN;
    char letters[CHALLENGE_HTTP01_TOKEN_MAX + 2];

    (void)state;
    assert_ptr_equal(challenge_http01_token(path), path + strlen(CHALLENGE_HTTP01_PREFIX));
    assert_string_equal(challenge_http01_token("/.well-known/acme-challenge/-"), "-");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(challenge_http01_token(bad[i]));
    }
    assert_null(challenge_http01_token(NULL));
    memset(letters, 'a', sizeof(letters));
    letters[CHALLENGE_HTTP01_TOKEN_MAX + 1] = '\0';
    assert_null(challenge_http01_token(apr_pstrcat(pool, CHALLENGE_HTTP01_PREFIX, letters,
                                                   NULL)));
    letters[CHALLENGE_HTTP01_TOKEN_MAX] = '\0';
    assert_non_null(challenge_http01_token(apr_pstrcat(pool, CHALLENGE_HTTP01_PREFIX, letters,
                                                       NULL)));
}

static void test_publish_answer_withdraw(void **state)
{
    challenge_task_t task = {
        .cache = cache, .name = "a.example", .token = TOKEN, .key_authorization = KEYAUTH
    };
    const char *answer = NULL;
    char *data = NULL;
    apr_size_t len = 0;
    base_error_t err;

    (void)state;
    assert_int_equal(challenge_http01_answer(&answer, cache, TOKEN, pool), APR_NOTFOUND);
    assert_int_equal(challenge_http01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(challenge_http01_answer(&answer, cache, TOKEN, pool), APR_SUCCESS);
    assert_string_equal(answer, KEYAUTH);
    /* where Go looks, without a newline */
    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_SHARED, TOKEN "+http-01", &data, &len, pool),
                     APR_SUCCESS);
    assert_int_equal(len, strlen(KEYAUTH));
    assert_int_equal(challenge_http01_answer(&answer, cache, "other", pool), APR_NOTFOUND);
    challenge_http01.withdraw(&task, pool);
    assert_int_equal(challenge_http01_answer(&answer, cache, TOKEN, pool), APR_NOTFOUND);
    assert_null(answer);
    challenge_http01.withdraw(&task, pool);
}

static void test_answer_shows_key_authorizations_only(void **state)
{
    static const char *const values[] = {
        "", TOKEN, TOKEN ".", "<script>", KEYAUTH "\n", "other.abc", TOKEN ".<b>",
        "-----BEGIN EC PRIVATE KEY-----"
    };
    const char *answer = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        cache_put(cache, AUTOCERT_CACHE_SHARED, TOKEN "+http-01", values[i], strlen(values[i]),
                  pool);
        assert_int_equal(challenge_http01_answer(&answer, cache, TOKEN, pool), APR_NOTFOUND);
        assert_null(answer);
    }
    cache_put(cache, AUTOCERT_CACHE_SHARED, TOKEN "+http-01", KEYAUTH "\0x", strlen(KEYAUTH) + 2,
              pool);
    assert_int_equal(challenge_http01_answer(&answer, cache, TOKEN, pool), APR_NOTFOUND);
    /* no other key can be reached */
    assert_int_equal(challenge_http01_answer(&answer, cache, "../x", pool), APR_NOTFOUND);
}

static void test_publish_refuses_tokens_that_cannot_be_answered(void **state)
{
    char token[CHALLENGE_HTTP01_TOKEN_MAX + 2];
    challenge_task_t task = { .cache = cache, .name = "a.example", .token = token, .key_authorization = "x" };
    base_error_t err;

    (void)state;
    memset(token, 'a', sizeof(token));
    token[CHALLENGE_HTTP01_TOKEN_MAX + 1] = '\0';
    assert_int_not_equal(challenge_http01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_non_null(strstr(err.detail, "129 characters"));
    assert_non_null(strstr(err.detail, "128"));
    token[CHALLENGE_HTTP01_TOKEN_MAX] = '\0';
    assert_int_equal(challenge_http01.publish(&task, pool, &err), APR_SUCCESS);
    task.token = "../x";
    assert_int_not_equal(challenge_http01.publish(&task, pool, &err), APR_SUCCESS);
}

static void test_publish_tells_the_reason(void **state)
{
    challenge_task_t task = {
        .cache = cache, .name = "a.example", .token = TOKEN, .key_authorization = KEYAUTH
    };
    base_error_t err;

    (void)state;
    assert_int_equal(mkdir(apr_pstrcat(pool, base, "/" TOKEN "+http-01", NULL), 0700), 0);
    assert_int_not_equal(challenge_http01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_non_null(strstr(err.detail, "cannot write the http-01 answer to the cache: "));
    assert_true(strlen(err.detail) > strlen("cannot write the http-01 answer to the cache: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(test_token_of_a_path),
        WITH_CACHE(test_publish_answer_withdraw),
        WITH_CACHE(test_answer_shows_key_authorizations_only),
        WITH_CACHE(test_publish_refuses_tokens_that_cannot_be_answered),
        WITH_CACHE(test_publish_tells_the_reason)
    };

    return RUN_TESTS(tests);
}
