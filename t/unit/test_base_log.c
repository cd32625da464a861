/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

static char seen[BASE_LOG_LINE_MAX + 8];
static int seen_level, seen_count;

static void receive(void *baton, int level, const char *line)
{
    assert_ptr_equal(baton, &seen_count);
    seen_level = level;
    seen_count++;
    strncpy(seen, line, sizeof(seen) - 1);
}

static void test_line(void **state)
{
    char big[2 * BASE_LOG_LINE_MAX];

    (void)state;
    base_log_set(receive, &seen_count);
    base_log(BASE_LOG_WARNING, "AC0110", "example.org", "lost %d; trying again", 3);
    assert_string_equal(seen, "AC0110: autocert: example.org: lost 3; trying again");
    assert_int_equal(seen_level, BASE_LOG_WARNING);
    base_log(BASE_LOG_INFO, "AC0001", NULL, "a\nb");
    assert_string_equal(seen, "AC0001: autocert: a?b");
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    base_log(BASE_LOG_INFO, "AC0001", NULL, "%s", big);
    assert_int_equal(strlen(seen), BASE_LOG_LINE_MAX - 1);
    base_log(BASE_LOG_INFO, "AC0001", big, "text");
    assert_int_equal(strlen(seen), BASE_LOG_LINE_MAX - 1);
    assert_int_equal(seen_count, 4);
    base_log(BASE_LOG_INFO, "AC0001", "*.xn--bcher-kva.example", "text");
    assert_string_equal(seen, "AC0001: autocert: *.xn--bcher-kva.example (*.b\xc3\xbc" "cher.example): text");
    base_log(BASE_LOG_INFO, "AC0001", "xn--.example", "text");
    assert_string_equal(seen, "AC0001: autocert: xn--.example: text");
    base_log_set(NULL, NULL);
    base_log(BASE_LOG_CRIT, "AC0001", NULL, "silent");
    assert_int_equal(seen_count, 6);
}

static void test_times(void **state)
{
    const long long moment = 1796133900LL;  /* 2026-12-01 14:05 UTC */
    char date[16], text[32];

    (void)state;
    assert_string_equal(base_log_date(date, moment), "2026-12-01");
    assert_string_equal(base_log_date(date, 253402300800LL * 1000000), "unknown");
    assert_string_equal(base_log_moment(text, moment, moment), "14:05");
    assert_string_equal(base_log_moment(text, moment, moment - 20 * 3600), "14:05");
    assert_string_equal(base_log_moment(text, moment, moment + 20 * 3600), "14:05");
    assert_string_equal(base_log_moment(text, moment, moment - 20 * 3600 - 1),
                        "2026-12-01 14:05 UTC");
    assert_string_equal(base_log_moment(text, moment, moment + 20 * 3600 + 1),
                        "2026-12-01 14:05 UTC");
    assert_string_equal(base_log_moment(text, moment, INT64_MIN), "2026-12-01 14:05 UTC");
}

static void test_limit(void **state)
{
    char others[BASE_LOG_OTHERS_SIZE];
    base_log_limit_t limit = { 0, 0 };

    (void)state;
    assert_true(base_log_limit(&limit, 1000, 10, others));
    assert_string_equal(others, "");
    assert_false(base_log_limit(&limit, 1000, 10, others));
    assert_false(base_log_limit(&limit, 1009, 10, others));
    assert_true(base_log_limit(&limit, 1010, 10, others));
    assert_string_equal(others, " (and 2 more like this)");
    assert_true(base_log_limit(&limit, 1020, 10, others));
    assert_string_equal(others, "");
    /* a clock that was set back does not silence it */
    assert_true(base_log_limit(&limit, 500, 10, others));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
