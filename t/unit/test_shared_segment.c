/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/segment.h"

static void test_attach(void **state)
{
    apr_uint32_t *memory = calloc(1, shared_segment_size());
    shared_segment_t *segment;

    (void)state;
    assert_null(shared_segment_attach(NULL));
    assert_null(shared_segment_attach(memory));
    shared_segment_init(memory);
    segment = shared_segment_attach(memory);
    assert_ptr_equal(segment, memory);
    /* every word of the header counts */
    for (int i = 0; i < 3; i++) {
        memory[i]++;
        assert_null(shared_segment_attach(memory));
        memory[i]--;
    }
    assert_non_null(shared_segment_attach(memory));
    free(memory);
}

static void test_tables_lie_inside_and_apart(void **state)
{
    char *memory = calloc(1, shared_segment_size());
    shared_segment_t *segment;
    char *versions, *requests, *clients, *waiters, *present, *visits;

    (void)state;
    shared_segment_init(memory);
    segment = shared_segment_attach(memory);
    versions = (char *)shared_segment_versions(segment);
    requests = (char *)shared_segment_requests(segment);
    assert_true(versions >= memory + 12);
    assert_true(requests >= versions + sizeof(shared_versions_t));
    clients = (char *)shared_segment_clients(segment);
    waiters = (char *)shared_segment_waiters(segment);
    present = (char *)shared_segment_present(segment);
    visits = (char *)shared_segment_visits(segment);
    assert_true(clients >= requests + sizeof(shared_requests_t));
    assert_true(waiters >= clients + sizeof(shared_clients_t));
    assert_true(present >= waiters + sizeof(shared_waiters_t));
    assert_true(visits >= present + shared_names_size(shared_names_slots(SHARED_SEGMENT_PRESENT)));
    assert_true(visits + shared_names_size(shared_names_slots(SHARED_SEGMENT_VISITS))
                <= memory + shared_segment_size());
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_tables_lie_inside_and_apart)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
