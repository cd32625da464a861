/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/calendar.h"

#include <string.h>

#include <apr_strings.h>
#include <apr_tables.h>

#include "base/hostname.h"
#include "base/log.h"

#define LIFETIME_PART 20        /* a walk at least so often in the shortest life */
#define RETIRE_PART 10          /* and so often in the time after which a name is retired */
#define HORIZON_WALKS 2         /* what is due within so many intervals stays in the queue */
#define FILLED 1                /* stamp of the set of certificates */

/** One thing to look at. */
typedef struct entry_t {
    const char *key;            /* cache key; of a preloaded name its first kind's */
    int preload;
} entry_t;

struct manager_calendar_t {
    const manager_policy_t *policy;
    const manager_order_context_t *context;
    shared_names_t *visits;
    apr_pool_t *pool;           /* of the walk under way, and of each look */
    apr_pool_t *look_pool;
    apr_array_header_t *entries;    /* of entry_t; NULL: no walk is under way */
    apr_uint32_t filling;       /* token of the set being filled; 0: somebody else fills it */
    int cursor;
    apr_interval_time_t interval;
    apr_interval_time_t shortest;   /* life seen in the walk under way, 0: none */
    apr_time_t next;
    int again;                  /* begin anew when the walk under way ends */
};

manager_calendar_t *manager_calendar_create(const manager_policy_t *policy,
                                            const manager_order_context_t *context,
                                            shared_names_t *visits, apr_pool_t *pool)
{
    manager_calendar_t *calendar = apr_pcalloc(pool, sizeof(*calendar));

    calendar->policy = policy;
    calendar->context = context;
    calendar->visits = visits;
    calendar->interval = MANAGER_CALENDAR_INTERVAL;
    apr_pool_create(&calendar->pool, pool);
    apr_pool_create(&calendar->look_pool, pool);
    return calendar;
}

/* --- The list of a walk --- */

static apr_status_t add_certificate(void *baton, const char *key)
{
    manager_calendar_t *calendar = baton;
    char name[BASE_HOSTNAME_SIZE];
    entry_t *entry;
    int rsa;

    if (!manager_policy_parse_cache_key(key, name, &rsa))
        return APR_SUCCESS;
    shared_names_put(calendar->context->present, calendar->filling, key);
    entry = apr_array_push(calendar->entries);
    entry->key = apr_pstrdup(calendar->pool, key);
    entry->preload = 0;
    return APR_SUCCESS;
}

static apr_status_t add_preload(void *baton, const char *name)
{
    manager_calendar_t *calendar = baton;
    manager_policy_name_t found;
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    entry_t *entry;

    if (!manager_policy_adopt(calendar->policy, name, 0, &found)
        && !manager_policy_adopt(calendar->policy, name, 1, &found))
        return APR_SUCCESS;
    found.kind = 0;
    manager_policy_cache_key(&found, key);
    if (found.vhost == NULL || shared_names_find(calendar->context->present, key) == SHARED_NAMES_YES)
        return APR_SUCCESS;
    entry = apr_array_push(calendar->entries);
    entry->key = apr_pstrdup(calendar->pool, key);
    entry->preload = 1;
    return APR_SUCCESS;
}

static void list_preloads(manager_calendar_t *calendar)
{
    const apr_array_header_t *vhosts = manager_policy_vhosts(calendar->policy);

    for (int v = 0; v < vhosts->nelts; v++) {
        const apr_array_header_t *rules = APR_ARRAY_IDX(vhosts, v, const manager_policy_vhost_t *)->rules;

        for (int r = 0; r < rules->nelts; r++) {
            const manager_host_file_t *file = APR_ARRAY_IDX(rules, r, manager_policy_rule_t).file;

            if (file != NULL && file->preload)
                manager_host_file_each(file, add_preload, calendar, calendar->look_pool);
        }
    }
}

static void begin_walk(manager_calendar_t *calendar, apr_time_t now)
{
    shared_names_t *present = calendar->context->present;
    apr_status_t rv;
    char text[120];

    calendar->entries = apr_array_make(calendar->pool, 64, sizeof(entry_t));
    calendar->cursor = 0;
    calendar->shortest = 0;
    calendar->filling = shared_names_begin(present, now);
    rv = cache_list(calendar->context->cache, AUTOCERT_CACHE_SHARED, add_certificate, calendar,
                    calendar->look_pool);
    if (rv == APR_SUCCESS)
        shared_names_commit(present, calendar->filling, FILLED);
    else
        shared_names_abandon(present, calendar->filling);
    if (rv != APR_SUCCESS)
        base_log(BASE_LOG_WARNING, "AC0170", NULL, "the certificates in the cache cannot be listed: %s; "
                 "those that no configuration lists are renewed when that works again",
                 apr_strerror(rv, text, sizeof(text)));
    list_preloads(calendar);
    apr_pool_clear(calendar->look_pool);
}

/* --- One certificate --- */

/* When it was visited last, as far as that is known; noted in its ledger when that is worth it. */
static apr_time_t find_visit(manager_calendar_t *calendar, const manager_policy_name_t *name,
                             const char *key, apr_time_t noted, apr_time_t now)
{
    apr_interval_time_t grain = name->settings->retire / RETIRE_PART;
    int recent = calendar->visits == NULL || shared_names_find_recent(calendar->visits, key);

    if (grain > MANAGER_CALENDAR_VISIT_GRAIN)
        grain = MANAGER_CALENDAR_VISIT_GRAIN;
    /* One that nobody knows anything of came from elsewhere: its time begins now. */
    if (noted > 0 && (!recent || (noted <= now && now - noted < grain)))
        return noted;
    manager_order_note_visit(calendar->context, name, now, calendar->look_pool);
    return now;
}

/* Orders that are due before a later walk would find them wait in the queue; questions to a CA are late
 * by an interval rather: there are many of them, and they need not be punctual. */
static int is_for_queue(const manager_calendar_t *calendar, const manager_order_result_t *result,
                        apr_time_t now)
{
    if (result->due <= now)
        return !manager_calendar_will_find(calendar, result->next, now);
    return !manager_calendar_will_find(calendar, result->due, now)
        || (result->ask > 0 && result->ask <= now);
}

static void look_at(manager_calendar_t *calendar, manager_queue_t *queue, const entry_t *entry,
                    apr_time_t now)
{
    char text[BASE_HOSTNAME_SIZE];
    manager_order_result_t result;
    manager_policy_name_t name;
    apr_interval_time_t life;
    int rsa;

    if (!manager_policy_parse_cache_key(entry->key, text, &rsa)
        || !manager_policy_adopt(calendar->policy, text, rsa, &name)
        || !manager_policy_is_on_demand(&name))
        return;
    manager_order_look(calendar->context, &name, &result, calendar->look_pool);
    life = result.not_after - result.not_before;
    if (life > 0 && (calendar->shortest == 0 || life < calendar->shortest))
        calendar->shortest = life;
    if (!entry->preload
        && find_visit(calendar, &name, entry->key, result.visited, now) < now - name.settings->retire)
        return;
    if (is_for_queue(calendar, &result, now) && manager_queue_find(queue, &name) == NULL)
        manager_queue_add(queue, &name);
}

/* --- The walk --- */

static apr_interval_time_t choose_interval(const manager_calendar_t *calendar)
{
    const apr_array_header_t *vhosts = manager_policy_vhosts(calendar->policy);
    apr_interval_time_t interval = MANAGER_CALENDAR_INTERVAL;

    if (calendar->shortest > 0 && calendar->shortest / LIFETIME_PART < interval)
        interval = calendar->shortest / LIFETIME_PART;
    for (int i = 0; i < vhosts->nelts; i++) {
        apr_interval_time_t part = APR_ARRAY_IDX(vhosts, i, const manager_policy_vhost_t *)->settings->retire
            / RETIRE_PART;

        if (part < interval)
            interval = part;
    }
    return interval > MANAGER_CALENDAR_INTERVAL_MIN ? interval : MANAGER_CALENDAR_INTERVAL_MIN;
}

/* Visits of the walk before this one are in the ledgers now. */
static void turn_visits_over(manager_calendar_t *calendar, apr_time_t now)
{
    if (calendar->visits != NULL)
        shared_names_commit(calendar->visits, shared_names_begin(calendar->visits, now), FILLED);
}

static void end_walk(manager_calendar_t *calendar, apr_time_t now)
{
    turn_visits_over(calendar, now);
    calendar->entries = NULL;
    apr_pool_clear(calendar->pool);
    calendar->interval = choose_interval(calendar);
    calendar->next = calendar->again ? now : now + calendar->interval;
    calendar->again = 0;
}

int manager_calendar_walk(manager_calendar_t *calendar, manager_queue_t *queue, int looks,
                          apr_time_t now)
{
    if (calendar->entries == NULL) {
        if (now < calendar->next)
            return 0;
        begin_walk(calendar, now);
    }
    while (looks-- > 0 && calendar->cursor < calendar->entries->nelts) {
        /* What is in the queue has to be done first; the walk goes on then. */
        if (manager_queue_is_crowded(queue))
            return 0;
        look_at(calendar, queue, &APR_ARRAY_IDX(calendar->entries, calendar->cursor, entry_t), now);
        apr_pool_clear(calendar->look_pool);
        calendar->cursor++;
    }
    if (calendar->cursor < calendar->entries->nelts)
        return 1;
    end_walk(calendar, now);
    return 0;
}

apr_time_t manager_calendar_next(const manager_calendar_t *calendar)
{
    return calendar->next;
}

void manager_calendar_note_lifetime(manager_calendar_t *calendar, apr_interval_time_t lifetime,
                                    apr_time_t now)
{
    apr_interval_time_t part = lifetime / LIFETIME_PART;

    if (part < MANAGER_CALENDAR_INTERVAL_MIN)
        part = MANAGER_CALENDAR_INTERVAL_MIN;
    if (lifetime > 0 && part < calendar->interval) {
        calendar->interval = part;
        if (calendar->next > now + part)
            calendar->next = now + part;
    }
}

void manager_calendar_hurry(manager_calendar_t *calendar, apr_time_t now)
{
    calendar->again = calendar->entries != NULL;
    calendar->next = now;
}

int manager_calendar_will_find(const manager_calendar_t *calendar, apr_time_t due, apr_time_t now)
{
    return due > now + HORIZON_WALKS * calendar->interval;
}
