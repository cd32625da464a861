/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/versions.h"

#define CHILDREN 4
#define RAISES 5000

static shared_versions_t *versions;

static void test_raise_changes_only_its_name(void **state)
{
    (void)state;
    memset(versions, 0, sizeof(*versions));
    assert_int_equal(shared_versions_get(versions, "a.example"), 0);
    shared_versions_raise(versions, "a.example");
    assert_int_equal(shared_versions_get(versions, "a.example"), 1);
    shared_versions_raise(versions, "a.example");
    assert_int_equal(shared_versions_get(versions, "a.example"), 2);
    assert_int_equal(shared_versions_get(versions, "b.example"), 0);
}

static void test_no_raise_of_any_process_is_lost(void **state)
{
    (void)state;
    memset(versions, 0, sizeof(*versions));
    for (int i = 0; i < CHILDREN; i++) {
        if (fork() == 0) {
            for (int j = 0; j < RAISES; j++) {
                shared_versions_raise(versions, "a.example");
            }
            _exit(0);
        }
    }
    while (wait(NULL) > 0) {
    }
    assert_int_equal(shared_versions_get(versions, "a.example"), CHILDREN * RAISES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raise_changes_only_its_name),
        cmocka_unit_test(test_no_raise_of_any_process_is_lost)
    };

    versions = mmap(NULL, sizeof(*versions), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                    -1, 0);
    if (versions == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
