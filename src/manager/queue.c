/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/queue.h"

#include <stdlib.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#define LAST_PART 10            /* the last tenth of a life */

struct manager_queue_t {
    apr_hash_t *by_key;         /* item->key -> manager_queue_item_t * */
    manager_queue_item_t *newest;
    manager_queue_item_t *oldest;
    manager_queue_item_t *unknown_first;
    manager_queue_item_t *unknown_last;
    int passing;
};

static apr_status_t free_items(void *data)
{
    manager_queue_t *queue = data;
    manager_queue_item_t *item = queue->newest;

    while (item != NULL) {
        manager_queue_item_t *older = item->older;

        free(item);
        item = older;
    }
    queue->newest = queue->oldest = queue->unknown_first = queue->unknown_last = NULL;
    return APR_SUCCESS;
}

static manager_queue_item_t *make_item(manager_queue_t *queue, const manager_policy_name_t *name)
{
    manager_queue_item_t *item = calloc(1, sizeof(*item));

    if (item == NULL)
        return NULL;
    item->name = *name;
    apr_cpystrn(item->text, name->name, sizeof(item->text));
    item->name.name = item->text;
    item->saved = item->issuer = -1;
    manager_policy_cache_key(name, item->key);
    item->older = queue->newest;
    *(queue->newest != NULL ? &queue->newest->newer : &queue->oldest) = item;
    queue->newest = item;
    apr_hash_set(queue->by_key, item->key, APR_HASH_KEY_STRING, item);
    manager_queue_mark_unknown(queue, item);
    return item;
}

manager_queue_t *manager_queue_create(const manager_policy_t *policy, apr_pool_t *pool)
{
    const apr_array_header_t *names = manager_policy_names(policy);
    manager_queue_t *queue = apr_pcalloc(pool, sizeof(*queue));

    queue->by_key = apr_hash_make(pool);
    apr_pool_cleanup_register(pool, queue, free_items, apr_pool_cleanup_null);
    for (int i = 0; i < names->nelts; i++)
        make_item(queue, APR_ARRAY_IDX(names, i, const manager_policy_name_t *));
    return queue;
}

manager_queue_item_t *manager_queue_find(manager_queue_t *queue, const manager_policy_name_t *name)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    return apr_hash_get(queue->by_key, manager_policy_cache_key(name, key), APR_HASH_KEY_STRING);
}

manager_queue_item_t *manager_queue_add(manager_queue_t *queue, const manager_policy_name_t *name)
{
    manager_queue_item_t *item;

    if (queue->passing >= MANAGER_QUEUE_PASSING_MAX || (item = make_item(queue, name)) == NULL)
        return NULL;
    item->passing = 1;
    queue->passing++;
    return item;
}

int manager_queue_is_crowded(const manager_queue_t *queue)
{
    return queue->passing >= MANAGER_QUEUE_PASSING_MAX / 2;
}

void manager_queue_remove(manager_queue_t *queue, manager_queue_item_t *item)
{
    manager_queue_item_t **place = &queue->unknown_first, *last = NULL;

    if (item->state == MANAGER_QUEUE_UNKNOWN) {
        while (*place != NULL && *place != item) {
            last = *place;
            place = &(*place)->next_unknown;
        }
        if (*place == item) {
            *place = item->next_unknown;
            if (queue->unknown_last == item)
                queue->unknown_last = last;
        }
    }
    *(item->newer != NULL ? &item->newer->older : &queue->newest) = item->older;
    *(item->older != NULL ? &item->older->newer : &queue->oldest) = item->newer;
    apr_hash_set(queue->by_key, item->key, APR_HASH_KEY_STRING, NULL);
    queue->passing -= item->passing;
    free(item);
}

int manager_queue_wish(manager_queue_item_t *item, apr_uint32_t vhost, const char *client)
{
    if (!item->waiting)
        apr_cpystrn(item->client, client, sizeof(item->client));
    item->waiting = 1;
    for (int i = 0; i < item->vhost_count; i++)
        if (item->vhosts[i] == vhost)
            return 1;
    if (item->vhost_count >= MANAGER_QUEUE_VHOSTS_MAX)
        return 0;
    item->vhosts[item->vhost_count++] = vhost;
    return 1;
}

void manager_queue_mark_unknown(manager_queue_t *queue, manager_queue_item_t *item)
{
    item->state = MANAGER_QUEUE_UNKNOWN;
    item->next_unknown = NULL;
    *(queue->unknown_last != NULL ? &queue->unknown_last->next_unknown : &queue->unknown_first) = item;
    queue->unknown_last = item;
}

manager_queue_item_t *manager_queue_next_unknown(manager_queue_t *queue)
{
    manager_queue_item_t *item = queue->unknown_first;

    if (item != NULL) {
        queue->unknown_first = item->next_unknown;
        if (queue->unknown_first == NULL)
            queue->unknown_last = NULL;
        item->next_unknown = NULL;
        item->state = MANAGER_QUEUE_SETTLED;
        item->not_before = item->not_after = 0;
    }
    return item;
}

int manager_queue_has_unknown(const manager_queue_t *queue)
{
    return queue->unknown_first != NULL;
}

void manager_queue_settle(manager_queue_item_t *item, const manager_order_result_t *result)
{
    item->state = MANAGER_QUEUE_SETTLED;
    item->next = result->next;
    item->problem = result->problem.kind;
    item->scope = result->scope;
    if (result->known) {
        item->due = result->due;
        item->saved = result->saved;
        item->issuer = result->issuer;
        item->avoid = result->avoid;
    }
    if (result->not_after > 0) {
        item->not_before = result->not_before;
        item->not_after = result->not_after;
    }
}

int manager_queue_draws_on_demand(const manager_queue_item_t *item, apr_time_t now)
{
    return manager_policy_is_on_demand(&item->name) && item->not_after <= now;
}

int manager_queue_only_asks(const manager_queue_item_t *item, apr_time_t now)
{
    return item->not_after > now && item->due > now;
}

static manager_queue_class_t classify(const manager_queue_item_t *item, apr_time_t now)
{
    if (item->state != MANAGER_QUEUE_SETTLED || item->next > now)
        return MANAGER_QUEUE_NOT_DUE;
    if (manager_queue_only_asks(item, now))
        return MANAGER_QUEUE_INFORMATION;
    if (item->not_after > now && item->not_after - now < (item->not_after - item->not_before) / LAST_PART)
        return MANAGER_QUEUE_LAST_TENTH;
    if (item->name.kind > 0 && item->not_after <= now)
        return MANAGER_QUEUE_SECOND_KIND;
    if (item->waiting)
        return MANAGER_QUEUE_WAITING;
    if (item->not_after > 0)
        return MANAGER_QUEUE_RENEWAL;
    if (item->passing)
        return MANAGER_QUEUE_PRELOAD;
    return item->name.alias ? MANAGER_QUEUE_NEW_ALIAS : MANAGER_QUEUE_NEW;
}

manager_queue_item_t *manager_queue_choose(manager_queue_t *queue, apr_time_t now,
                                           manager_queue_place_t *place, void *baton, int no_demand,
                                           apr_time_t *wake)
{
    manager_queue_item_t *best = NULL, *item;
    manager_queue_class_t best_class = MANAGER_QUEUE_NOT_DUE;

    for (item = queue->oldest; item != NULL; item = item->newer) {
        manager_queue_class_t class = classify(item, now);

        if (class < best_class && (!no_demand || !manager_queue_draws_on_demand(item, now))
            && place(baton, item, now, wake)) {
            best = item;
            best_class = class;
        }
        else if (item->state == MANAGER_QUEUE_SETTLED && item->next > now && item->next < *wake) {
            *wake = item->next;
        }
    }
    return best;
}

apr_interval_time_t manager_queue_shortest_life(const manager_queue_t *queue)
{
    const manager_queue_item_t *item;
    apr_interval_time_t shortest = 0;

    for (item = queue->oldest; item != NULL; item = item->newer) {
        apr_interval_time_t life = item->not_after - item->not_before;

        if (life > 0 && (shortest == 0 || life < shortest))
            shortest = life;
    }
    return shortest;
}

void manager_queue_count(const manager_queue_t *queue, apr_time_t now, int *names, int *valid,
                         apr_time_t *first)
{
    const manager_queue_item_t *item;

    *names = *valid = 0;
    *first = 0;
    for (item = queue->oldest; item != NULL; item = item->newer) {
        if (item->passing)
            continue;
        (*names)++;
        if (item->not_after <= now)
            continue;
        (*valid)++;
        if (*first == 0 || item->not_after < *first)
            *first = item->not_after;
    }
}
