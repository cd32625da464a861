/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <apr_general.h>

#include "base/json.h"
#include "run.h"

static apr_pool_t *pool;

static json_t *parse(const char *text)
{
    return base_json_parse_object(text, strlen(text), pool);
}

static void test_parse(void **state)
{
    static const char with_nul[] = "{\"a\":\"b\0c\"}";

    (void)state;
    assert_non_null(parse("{} \n\t"));
    assert_null(parse("[]"));
    assert_null(parse(""));
    assert_null(parse("3"));
    assert_null(parse("{}{}"));
    assert_null(parse("{\"a\":1"));
    assert_null(parse("{\"a\":\"b\\u0000c\"}"));
    assert_null(base_json_parse_object(with_nul, sizeof(with_nul) - 1, pool));
    assert_null(base_json_parse_object(NULL, 0, pool));
    assert_null(parse("{\"a\":\"\xff\"}"));
    assert_int_equal(base_json_integer(parse("{\"a\":1,\"a\":2}"), "a", 0), 2);
}

static void test_lookups(void **state)
{
    json_t *o = parse("{\"s\":\"x\",\"i\":-7,\"t\":true,\"f\":false,\"n\":null,\"a\":[1],\"o\":{},"
                      "\"r\":1.5,\"meta\":null}");

    (void)state;
    assert_string_equal(base_json_string(o, "s"), "x");
    assert_null(base_json_string(o, "i"));
    assert_null(base_json_string(o, "missing"));
    assert_null(base_json_string(NULL, "s"));
    assert_null(base_json_string(base_json_object(o, "meta"), "s"));
    assert_non_null(base_json_object(o, "o"));
    assert_null(base_json_object(o, "a"));
    assert_null(base_json_object(NULL, "o"));
    assert_non_null(base_json_array(o, "a"));
    assert_null(base_json_array(o, "o"));
    assert_null(base_json_array(NULL, "a"));
    assert_int_equal(base_json_integer(o, "i", 5), -7);
    assert_int_equal(base_json_integer(o, "s", 5), 5);
    assert_int_equal(base_json_integer(o, "r", 5), 5);
    assert_int_equal(base_json_integer(o, "missing", 5), 5);
    assert_int_equal(base_json_integer(NULL, "i", 5), 5);
    assert_true(base_json_true(o, "t"));
    assert_false(base_json_true(o, "f"));
    assert_false(base_json_true(o, "s"));
    assert_false(base_json_true(o, "i"));
    assert_false(base_json_true(NULL, "t"));
}

/* A number that no member of ours has costs only itself. */
static void test_huge_number(void **state)
{
    json_t *o = parse("{\"big\":123456789012345678901234567890,\"i\":42,\"s\":\"x\"}");

    (void)state;
    assert_non_null(o);
    assert_int_equal(base_json_integer(o, "big", 5), 5);
    assert_int_equal(base_json_integer(o, "i", 5), 42);
    assert_string_equal(base_json_string(o, "s"), "x");
    assert_null(parse("{\"big\":1e999}"));
}

static void test_dump(void **state)
{
    (void)state;
    assert_string_equal(base_json_dump(json_pack("{s:s,s:[i,b]}", "a", "b/\n", "c", 1, 1), pool),
                        "{\"a\":\"b/\\n\",\"c\":[1,true]}");
    assert_null(base_json_dump(NULL, pool));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_parse),
    cmocka_unit_test(test_lookups),
    cmocka_unit_test(test_huge_number),
    cmocka_unit_test(test_dump),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
