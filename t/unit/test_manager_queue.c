/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_strings.h>
#include <cmocka.h>

#include "manager/queue.h"
#include "run.h"

#define NOW apr_time_from_sec(1800000000)
#define SECOND apr_time_from_sec(1)
#define DAY apr_time_from_sec(86400)

static apr_pool_t *pool;

static const manager_policy_settings_t settings = { .key_types = { CRYPTO_KEY_P256, CRYPTO_KEY_RSA2048 },
                                                    .kinds = 2 };
static const manager_policy_vhost_t vhost = { .id = 7, .settings = &settings };

static manager_policy_name_t demand(const char *name, int kind)
{
    return (manager_policy_name_t){ .name = name, .settings = &settings, .kind = kind, .vhost = &vhost };
}

/* A queue with the listed names "listed.example" and its alias. */
static manager_queue_t *make_queue(void)
{
    manager_policy_t *policy = manager_policy_create(pool);

    manager_policy_add(policy, "alias.example", &settings, 1);
    manager_policy_add(policy, "listed.example", &settings, 0);
    return manager_queue_create(policy, pool);
}

static manager_queue_item_t *find(manager_queue_t *queue, const char *name, int kind)
{
    manager_policy_name_t wanted = demand(name, kind);

    return manager_queue_find(queue, &wanted);
}

static manager_queue_item_t *add(manager_queue_t *queue, const char *name, int kind)
{
    manager_policy_name_t wanted = demand(name, kind);

    return manager_queue_add(queue, &wanted);
}

/* Settle an item: a certificate of so many days that ends in so many, due at a moment. */
static void settle(manager_queue_item_t *item, int life, int left, apr_time_t next)
{
    manager_order_result_t result;

    memset(&result, 0, sizeof(result));
    result.known = 1;
    result.next = next;
    result.saved = result.issuer = -1;
    if (life > 0) {
        result.not_after = NOW + left * DAY;
        result.not_before = result.not_after - life * DAY;
    }
    manager_queue_settle(item, &result);
}

/* Every item can go to the CA 0. */
static int place_all(void *baton, manager_queue_item_t *item, apr_time_t now, apr_time_t *wake)
{
    (void)baton;
    (void)now;
    (void)wake;
    item->ca = 0;
    return 1;
}

/* The CA has no budget: only an order that is under way goes on; the next one is there in a minute. */
static int place_saved(void *baton, manager_queue_item_t *item, apr_time_t now, apr_time_t *wake)
{
    if (item->saved < 0) {
        *wake = now + 60 * SECOND;
        return 0;
    }
    return place_all(baton, item, now, wake);
}

static manager_queue_item_t *choose(manager_queue_t *queue, apr_time_t now, apr_time_t *wake)
{
    return manager_queue_choose(queue, now, place_all, NULL, 0, wake);
}

static void take_all_unknown(manager_queue_t *queue)
{
    while (manager_queue_next_unknown(queue) != NULL)
        ;
}

static void test_listed_names_stay(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *first = manager_queue_next_unknown(queue);
    int names, valid;
    apr_time_t ends;

    (void)state;
    assert_string_equal(first->name.name, "alias.example");
    assert_false(first->passing);
    assert_string_equal(manager_queue_next_unknown(queue)->key, "listed.example");
    assert_null(manager_queue_next_unknown(queue));
    assert_false(manager_queue_has_unknown(queue));
    settle(first, 90, 60, NOW + DAY);
    manager_queue_count(queue, NOW, &names, &valid, &ends);
    assert_int_equal(names, 2);
    assert_int_equal(valid, 1);
    assert_true(ends == NOW + 60 * DAY);
}

static void test_passing_items_come_and_go(void **state)
{
    manager_queue_t *queue = make_queue();
    char text[64] = "a.example";
    manager_queue_item_t *item = add(queue, text, 0), *other = add(queue, "a.example", 1);
    int names, valid;
    apr_time_t ends;

    (void)state;
    memset(text, 'x', 9);       /* the name was copied */
    assert_string_equal(item->name.name, "a.example");
    assert_string_equal(item->key, "a.example");
    assert_string_equal(other->key, "a.example+rsa");
    assert_true(item->passing);
    assert_ptr_equal(find(queue, "a.example", 0), item);
    assert_ptr_equal(find(queue, "a.example", 1), other);
    manager_queue_count(queue, NOW, &names, &valid, &ends);
    assert_int_equal(names, 2);
    /* out of the middle and from both ends of the list of unknown ones */
    manager_queue_remove(queue, item);
    assert_null(find(queue, "a.example", 0));
    item = add(queue, "b.example", 0);
    manager_queue_remove(queue, other);
    manager_queue_remove(queue, item);
    item = add(queue, "c.example", 0);
    assert_string_equal(manager_queue_next_unknown(queue)->key, "alias.example");
    assert_string_equal(manager_queue_next_unknown(queue)->key, "listed.example");
    assert_ptr_equal(manager_queue_next_unknown(queue), item);
    assert_null(manager_queue_next_unknown(queue));
    manager_queue_remove(queue, item);
}

static void test_room_is_bounded(void **state)
{
    manager_queue_t *queue = make_queue();

    (void)state;
    for (int i = 0; i < MANAGER_QUEUE_PASSING_MAX; i++) {
        assert_int_equal(manager_queue_is_crowded(queue), i >= MANAGER_QUEUE_PASSING_MAX / 2);
        assert_non_null(add(queue, apr_psprintf(pool, "n%d.example", i), 0));
    }
    assert_null(add(queue, "more.example", 0));
    manager_queue_remove(queue, find(queue, "n17.example", 0));
    assert_non_null(add(queue, "more.example", 0));
}

static void test_wishes(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *item = add(queue, "a.example", 0);

    (void)state;
    assert_true(manager_queue_wish(item, 7, "192.0.2.1"));
    assert_true(manager_queue_wish(item, 7, "192.0.2.2"));
    assert_int_equal(item->vhost_count, 1);
    assert_string_equal(item->client, "192.0.2.1");
    for (apr_uint32_t id = 8; id < 20; id++)
        assert_int_equal(manager_queue_wish(item, id, ""), id < 7 + MANAGER_QUEUE_VHOSTS_MAX);
    assert_int_equal(item->vhost_count, MANAGER_QUEUE_VHOSTS_MAX);
    assert_true(item->waiting);
}

/* Each is more urgent than the next one. */
static void test_order(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *in_order[7];
    apr_time_t wake = NOW + DAY;

    (void)state;
    in_order[0] = add(queue, "last.example", 0);
    in_order[1] = add(queue, "waiting.example", 0);
    in_order[2] = add(queue, "renewal.example", 0);
    in_order[3] = find(queue, "listed.example", 0);
    in_order[4] = find(queue, "alias.example", 0);
    in_order[5] = add(queue, "ahead.example", 0);
    in_order[6] = add(queue, "second.example", 1);
    take_all_unknown(queue);
    settle(in_order[0], 90, 8, NOW);
    settle(in_order[1], 0, 0, NOW);
    manager_queue_wish(in_order[1], 7, "");
    settle(in_order[2], 90, 30, NOW);
    for (int i = 3; i < 7; i++)
        settle(in_order[i], 0, 0, NOW);
    manager_queue_wish(in_order[6], 7, "");
    for (int i = 0; i < 7; i++) {
        assert_ptr_equal(choose(queue, NOW, &wake), in_order[i]);
        in_order[i]->state = MANAGER_QUEUE_RUNNING;
    }
    assert_null(choose(queue, NOW, &wake));
    assert_true(wake == NOW + DAY);
}

static void test_what_is_not_due_says_when(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *item = find(queue, "listed.example", 0);
    apr_time_t wake = NOW + DAY;

    (void)state;
    take_all_unknown(queue);
    settle(item, 0, 0, NOW + 5 * SECOND);
    settle(find(queue, "alias.example", 0), 0, 0, NOW + 9 * SECOND);
    assert_null(choose(queue, NOW, &wake));
    assert_true(wake == NOW + 5 * SECOND);
    assert_ptr_equal(choose(queue, wake, &wake), item);
}

static void test_shares(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *new_one = add(queue, "new.example", 0), *old = add(queue, "old.example", 0);
    manager_queue_item_t *listed = find(queue, "listed.example", 0);
    apr_time_t wake = NOW + DAY;

    (void)state;
    take_all_unknown(queue);
    settle(find(queue, "alias.example", 0), 0, 0, NOW + DAY);
    settle(new_one, 0, 0, NOW);
    manager_queue_wish(new_one, 7, "");
    settle(old, 90, 30, NOW);
    settle(listed, 0, 0, NOW);
    /* only what strangers cause draws on their share: renewals and listed names do not */
    assert_true(manager_queue_draws_on_demand(new_one, NOW));
    assert_false(manager_queue_draws_on_demand(old, NOW));
    assert_true(manager_queue_draws_on_demand(old, NOW + 31 * DAY));
    assert_false(manager_queue_draws_on_demand(listed, NOW));
    assert_ptr_equal(choose(queue, NOW, &wake), new_one);
    assert_ptr_equal(manager_queue_choose(queue, NOW, place_all, NULL, 1, &wake), old);
    /* without budget only an order that is under way goes on */
    assert_null(manager_queue_choose(queue, NOW, place_saved, NULL, 0, &wake));
    assert_true(wake == NOW + 60 * SECOND);
    listed->saved = 0;
    assert_ptr_equal(manager_queue_choose(queue, NOW, place_saved, NULL, 0, &wake), listed);
}

/* A certificate that is only to be asked about comes last, and is no renewal. */
static void test_questions_come_last(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *asks = find(queue, "listed.example", 0), *alias = find(queue, "alias.example", 0);
    apr_time_t wake = NOW + DAY;

    (void)state;
    take_all_unknown(queue);
    settle(asks, 90, 60, NOW);
    asks->due = NOW + 30 * DAY;
    settle(alias, 0, 0, NOW);
    assert_true(manager_queue_only_asks(asks, NOW));
    assert_false(manager_queue_only_asks(asks, NOW + 30 * DAY));
    assert_false(manager_queue_only_asks(alias, NOW));
    assert_ptr_equal(choose(queue, NOW, &wake), alias);
    alias->state = MANAGER_QUEUE_RUNNING;
    assert_ptr_equal(choose(queue, NOW, &wake), asks);
}

/* What a run found out is kept when the next one could not even look. */
static void test_unknown_results_change_nothing(void **state)
{
    manager_queue_t *queue = make_queue();
    manager_queue_item_t *item = find(queue, "listed.example", 0);
    manager_order_result_t busy;

    (void)state;
    take_all_unknown(queue);
    settle(item, 90, 60, NOW);
    item->due = NOW + 30 * DAY;
    item->issuer = 1;
    item->saved = 1;
    memset(&busy, 0, sizeof(busy));
    busy.next = NOW + SECOND;
    busy.problem.kind = BASE_ERROR_BUSY;
    manager_queue_settle(item, &busy);
    assert_true(item->next == NOW + SECOND);
    assert_true(item->due == NOW + 30 * DAY);
    assert_int_equal(item->issuer, 1);
    assert_int_equal(item->saved, 1);
}

static void test_shortest_life(void **state)
{
    manager_queue_t *queue = make_queue();

    (void)state;
    take_all_unknown(queue);
    assert_true(manager_queue_shortest_life(queue) == 0);
    settle(find(queue, "listed.example", 0), 90, 60, NOW);
    settle(find(queue, "alias.example", 0), 6, 5, NOW);
    assert_true(manager_queue_shortest_life(queue) == 6 * DAY);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_listed_names_stay),
    cmocka_unit_test(test_passing_items_come_and_go),
    cmocka_unit_test(test_room_is_bounded),
    cmocka_unit_test(test_wishes),
    cmocka_unit_test(test_order),
    cmocka_unit_test(test_what_is_not_due_says_when),
    cmocka_unit_test(test_shares),
    cmocka_unit_test(test_questions_come_last),
    cmocka_unit_test(test_unknown_results_change_nothing),
    cmocka_unit_test(test_shortest_life),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
