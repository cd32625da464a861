/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/scheduler.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include "acme/account.h"
#include "base/log.h"
#include "manager/order.h"

#define LOOKS_PER_ROUND 200                         /* names judged before requests are taken again */
#define POLL_MAX apr_time_from_msec(250)            /* requests of an older generation wake nobody */
#define POLL_MIN apr_time_from_msec(1)
#define LOOK_AGAIN apr_time_from_sec(1)             /* one look at the cache per name, asked by clients */
#define CA_PAUSE_FIRST apr_time_from_sec(2)         /* after the first failure of the CA itself */
#define CA_PAUSE_MAX apr_time_from_sec(300)
#define BUDGET_LOG_EVERY apr_time_from_sec(3600)
#define CA_RETRY_AFTER_MAX apr_time_from_sec(24 * 3600)     /* a CA that says more is mistaken */
#define CA_PAUSE_OPERATOR apr_time_from_sec(3600)   /* a human must act first */

/** What is known of a name. */
typedef enum {
    ITEM_UNKNOWN,       /* the cache has to be looked at */
    ITEM_SETTLED,       /* nothing to do before `next` */
    ITEM_RUNNING        /* a worker has it */
} item_state_t;

/** Order of the queue, most urgent first. */
typedef enum {
    CLASS_LAST_TENTH,   /* the certificate in service is about to expire */
    CLASS_WAITING,      /* a client came and there was none */
    CLASS_RENEWAL,
    CLASS_NEW,          /* configured, never obtained */
    CLASS_NEW_ALIAS,
    CLASS_NONE          /* not due */
} item_class_t;

typedef struct item_t {
    const manager_policy_name_t *name;
    item_state_t state;
    int waiting;                    /* a client asked for it */
    int saved;                      /* an order is under way: no budget is needed to go on */
    apr_time_t next;                /* when something is to be done */
    apr_time_t looked;              /* when the cache was last looked at */
    apr_time_t not_before;
    apr_time_t not_after;           /* 0: there is no certificate */
    base_error_kind_t problem;      /* why `next` is what it is, NONE when all is well */
} item_t;

typedef struct worker_t {
    manager_scheduler_t *scheduler;
    apr_thread_t *thread;
    item_t *item;                   /* to do; NULL: idle. Guarded by the mutex */
    int funded;                     /* an order was taken out of the budget for it */
    int done;                       /* the item was worked on; guarded by the mutex */
    manager_order_result_t result;
} worker_t;

/** What holds the CA back from all names. */
typedef struct pause_t {
    apr_time_t until;
    int failures;                   /* in a row */
    apr_time_t budget_until;        /* no order is left before then */
    apr_time_t budget_logged;       /* when AC0131 was last written */
} pause_t;

struct manager_scheduler_t {
    const manager_scheduler_config_t *config;
    base_stop_t *stop;
    manager_order_context_t context;
    item_t *items;                  /* dispatcher only, but for the item of a running worker */
    int nitems;
    int unknown;                    /* items that have to be looked at */
    int look_cursor;
    apr_hash_t *by_name;            /* const char * -> item_t * */
    int summarized;                 /* AC0001 is written */
    pause_t pause;
    apr_thread_mutex_t *mutex;      /* guards the hand-over to the workers */
    apr_thread_cond_t *cond;
    int leaving;                    /* guarded by the mutex: workers end */
    worker_t worker[MANAGER_SCHEDULER_WORKERS];
    apr_thread_t *dispatcher;
    int done_pipe[2];               /* a worker writes when it is done */
    volatile apr_uint32_t alive;    /* threads that have not ended */
};

/* --- Workers ---------------------------------------------------------------- */

static void *APR_THREAD_FUNC run_worker(apr_thread_t *thread, void *data)
{
    worker_t *worker = data;
    manager_scheduler_t *scheduler = worker->scheduler;
    apr_pool_t *pool = NULL;

    (void)thread;
    apr_pool_create_unmanaged_ex(&pool, NULL, NULL);
    apr_thread_mutex_lock(scheduler->mutex);
    while (pool != NULL) {
        while (!scheduler->leaving && (worker->item == NULL || worker->done))
            apr_thread_cond_wait(scheduler->cond, scheduler->mutex);
        if (scheduler->leaving)
            break;
        apr_thread_mutex_unlock(scheduler->mutex);
        manager_order_run(&scheduler->context, worker->item->name, worker->funded, &worker->result,
                          pool);
        apr_pool_clear(pool);
        apr_thread_mutex_lock(scheduler->mutex);
        worker->done = 1;
        if (write(scheduler->done_pipe[1], "", 1) < 0 && errno != EAGAIN)
            base_log(BASE_LOG_DEBUG, "AC0199", NULL, "a worker could not wake the dispatcher; "
                     "it looks by itself");
    }
    apr_thread_mutex_unlock(scheduler->mutex);
    if (pool != NULL)
        apr_pool_destroy(pool);
    apr_atomic_dec32(&scheduler->alive);
    return NULL;
}

static worker_t *find_idle_worker(manager_scheduler_t *scheduler)
{
    int i;

    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++)
        if (scheduler->worker[i].thread != NULL && scheduler->worker[i].item == NULL)
            return &scheduler->worker[i];
    return NULL;
}

static void hand_over(manager_scheduler_t *scheduler, worker_t *worker, item_t *item, int funded)
{
    item->state = ITEM_RUNNING;
    apr_thread_mutex_lock(scheduler->mutex);
    worker->item = item;
    worker->funded = funded;
    worker->done = 0;
    apr_thread_cond_broadcast(scheduler->cond);
    apr_thread_mutex_unlock(scheduler->mutex);
}

/* --- The CA itself ----------------------------------------------------------- */

static void resume_ca(manager_scheduler_t *scheduler)
{
    if (scheduler->pause.failures > 0)
        base_log(BASE_LOG_NOTICE, "AC0132", NULL, "CA %s answers again; names that waited are obtained now",
                 scheduler->config->ca->name);
    scheduler->pause.failures = 0;
    scheduler->pause.until = 0;
}

/* The order budget is used up: only what needs none goes on. */
static void note_budget(manager_scheduler_t *scheduler, apr_time_t until, apr_time_t now)
{
    const manager_budget_rate_t *rate = &scheduler->config->rate;
    pause_t *pause = &scheduler->pause;
    char when[32];

    pause->budget_until = until > now ? until : now + POLL_MAX;
    if (now - pause->budget_logged < BUDGET_LOG_EVERY)
        return;
    pause->budget_logged = now;
    base_log(BASE_LOG_NOTICE, "AC0131", NULL, "CA %s: the order budget of %d per %" APR_TIME_T_FMT
             " s is used up; names that are due wait, the most urgent until %s",
             scheduler->config->ca->name, rate->orders, apr_time_sec(rate->period),
             base_log_moment(when, apr_time_sec(until), apr_time_sec(now)));
}

/* Nobody is sent to a CA that is down or wants a human first. The wait grows with each
 * failure; orders that were under way when it began do not count again. */
static void pause_ca(manager_scheduler_t *scheduler, const manager_order_result_t *result,
                     apr_time_t now)
{
    pause_t *pause = &scheduler->pause;
    const base_error_t *problem = &result->problem;
    int shift = pause->failures < 16 ? pause->failures : 16;
    char when[32];

    if (problem->kind == BASE_ERROR_WAIT && problem->status == APR_EAGAIN) {
        note_budget(scheduler, problem->retry_at, now);
        return;
    }
    if (now < pause->until)
        return;
    if (problem->retry_at > now)
        pause->until = problem->retry_at < now + CA_RETRY_AFTER_MAX ? problem->retry_at
                                                                  : now + CA_RETRY_AFTER_MAX;
    else if (problem->kind == BASE_ERROR_OPERATOR)
        pause->until = now + CA_PAUSE_OPERATOR;
    else
        pause->until = now + (CA_PAUSE_FIRST << shift < CA_PAUSE_MAX ? CA_PAUSE_FIRST << shift
                                                                    : CA_PAUSE_MAX);
    pause->failures++;
    base_log(BASE_LOG_ERR, "AC0130", NULL, "CA %s: %s%s%s; certificates in the cache are served, "
             "next try %s (in %" APR_TIME_T_FMT " s)", scheduler->config->ca->name, problem->type,
             problem->type[0] ? ": " : "", problem->detail,
             base_log_moment(when, apr_time_sec(pause->until), apr_time_sec(now)),
             apr_time_sec(pause->until - now));
}

/* --- Items ------------------------------------------------------------------ */

static void settle(item_t *item, const manager_order_result_t *result)
{
    item->state = ITEM_SETTLED;
    item->next = result->next;
    item->saved = result->saved;
    item->problem = result->problem.kind;
    if (result->not_after > 0) {
        item->not_before = result->not_before;
        item->not_after = result->not_after;
    }
    if (item->problem == BASE_ERROR_NONE)
        item->waiting = 0;
}

static void mark_unknown(manager_scheduler_t *scheduler, item_t *item)
{
    item->state = ITEM_UNKNOWN;
    scheduler->unknown++;
}

static item_class_t classify(const item_t *item, apr_time_t now)
{
    if (item->state != ITEM_SETTLED || item->next > now)
        return CLASS_NONE;
    if (item->not_after > now && item->not_after - now < (item->not_after - item->not_before) / 10)
        return CLASS_LAST_TENTH;
    if (item->waiting)
        return CLASS_WAITING;
    if (item->not_after > 0)
        return CLASS_RENEWAL;
    return item->name->alias ? CLASS_NEW_ALIAS : CLASS_NEW;
}

/* The most urgent item that is due and can be paid for; *wake becomes the earliest moment when
 * another one is. */
static item_t *choose(manager_scheduler_t *scheduler, apr_time_t now, apr_time_t *wake)
{
    item_t *best = NULL;
    item_class_t best_class = CLASS_NONE;
    int i, broke = scheduler->pause.budget_until > now;

    if (broke && scheduler->pause.budget_until < *wake)
        *wake = scheduler->pause.budget_until;
    for (i = 0; i < scheduler->nitems; i++) {
        item_t *item = &scheduler->items[i];
        item_class_t class = classify(item, now);

        if (class < best_class && (!broke || item->saved)) {
            best = item;
            best_class = class;
        }
        else if (item->state == ITEM_SETTLED && item->next > now && item->next < *wake) {
            *wake = item->next;
        }
    }
    return best;
}

/* --- The dispatcher's round, in its order ------------------------------------ */

static void collect_results(manager_scheduler_t *scheduler, apr_time_t now)
{
    char drain[64];
    int i;

    while (read(scheduler->done_pipe[0], drain, sizeof(drain)) > 0)
        ;
    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++) {
        worker_t *worker = &scheduler->worker[i];
        item_t *item = NULL;

        apr_thread_mutex_lock(scheduler->mutex);
        if (worker->item != NULL && worker->done) {
            item = worker->item;
            worker->item = NULL;
            worker->done = 0;
        }
        apr_thread_mutex_unlock(scheduler->mutex);
        if (item == NULL)
            continue;
        settle(item, &worker->result);
        if (worker->result.scope == MANAGER_ORDER_SCOPE_CA)
            pause_ca(scheduler, &worker->result, now);
        else if (worker->result.answered)
            resume_ca(scheduler);
    }
}

static void take_requests(manager_scheduler_t *scheduler, apr_time_t now)
{
    shared_requests_t *requests = shared_segment_requests(scheduler->config->segment);
    char name[BASE_HOSTNAME_SIZE], drain[64];
    unsigned int cursor = 0;

    if (scheduler->config->wake_fd >= 0)
        while (read(scheduler->config->wake_fd, drain, sizeof(drain)) > 0)
            ;
    while (shared_requests_take(requests, &cursor, name, now)) {
        item_t *item = apr_hash_get(scheduler->by_name, name, APR_HASH_KEY_STRING);

        if (item == NULL)
            continue;
        item->waiting = 1;
        /* It was thought to be there and a client found nothing: look again. A name that failed
         * waits for its next try, whoever asks. */
        if (item->state == ITEM_SETTLED && item->problem == BASE_ERROR_NONE && item->next > now
            && now - item->looked > LOOK_AGAIN)
            mark_unknown(scheduler, item);
    }
}

static void look_at_unknown(manager_scheduler_t *scheduler, apr_pool_t *pool, apr_time_t now)
{
    int looks = 0, seen;

    for (seen = 0; scheduler->unknown > 0 && looks < LOOKS_PER_ROUND && seen < scheduler->nitems; seen++) {
        item_t *item = &scheduler->items[scheduler->look_cursor];
        manager_order_result_t result;

        scheduler->look_cursor = (scheduler->look_cursor + 1) % scheduler->nitems;
        if (item->state != ITEM_UNKNOWN)
            continue;
        manager_order_look(&scheduler->context, item->name, &result, pool);
        apr_pool_clear(pool);
        item->not_before = item->not_after = 0;
        item->looked = now;
        settle(item, &result);
        scheduler->unknown--;
        looks++;
    }
}

/* One line that tells an administrator where things stand, once all names were looked at. */
static void summarize(manager_scheduler_t *scheduler, apr_time_t now)
{
    int i, valid = 0;
    apr_time_t first = 0;
    char date[16], expires[48] = "";

    if (scheduler->summarized || scheduler->unknown > 0)
        return;
    scheduler->summarized = 1;
    for (i = 0; i < scheduler->nitems; i++) {
        const item_t *item = &scheduler->items[i];

        if (item->not_after <= now)
            continue;
        valid++;
        if (first == 0 || item->not_after < first)
            first = item->not_after;
    }
    if (first > 0)
        apr_snprintf(expires, sizeof(expires), " (first expires %s)",
                     base_log_date(date, apr_time_sec(first)));
    base_log(BASE_LOG_NOTICE, "AC0001", NULL, "%d name%s in %d vhost%s: %d valid%s, %d to obtain; "
             "CA %s; cache %s", scheduler->nitems, scheduler->nitems == 1 ? "" : "s",
             scheduler->config->vhosts, scheduler->config->vhosts == 1 ? "" : "s", valid, expires,
             scheduler->nitems - valid, scheduler->config->ca->name, scheduler->config->cache_text);
}

/*
 * Pay for an item here, not in its worker: workers would race for the last order, and the most
 * urgent name might lose. @return non-zero when it can go to a worker
 */
static int fund(manager_scheduler_t *scheduler, const item_t *item, int *funded, apr_pool_t *pool,
                apr_time_t now)
{
    const manager_scheduler_config_t *config = scheduler->config;
    apr_time_t when = 0;
    apr_status_t rv;

    *funded = 0;
    if (config->rate.orders == 0 || item->saved)
        return 1;
    rv = manager_budget_take(config->cache, config->ca->id, &config->rate, now, &when,
                             scheduler->stop, pool);
    apr_pool_clear(pool);
    *funded = rv == APR_SUCCESS;
    if (rv == APR_EAGAIN)
        note_budget(scheduler, when, now);
    /* A cache that fails is for the worker to find out, and to report with the name. */
    return rv != APR_EAGAIN && rv != APR_EBUSY && rv != APR_EINTR;
}

/* Hand out what is due. After a failure of the CA one order goes first, as a probe. */
static void dispatch(manager_scheduler_t *scheduler, apr_pool_t *pool, apr_time_t now,
                     apr_time_t *wake)
{
    worker_t *worker;
    int running = 0, i, funded;

    if (scheduler->pause.until > now) {
        *wake = scheduler->pause.until;
        return;
    }
    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++)
        running += scheduler->worker[i].item != NULL;
    while ((worker = find_idle_worker(scheduler)) != NULL) {
        item_t *item;

        if (scheduler->pause.failures > 0 && running > 0)
            return;
        item = choose(scheduler, now, wake);
        if (item == NULL)
            return;
        if (fund(scheduler, item, &funded, pool, now)) {
            hand_over(scheduler, worker, item, funded);
            running++;
        }
        else if (scheduler->pause.budget_until <= now) {
            return;     /* the budget's lock is busy, or this process is asked to stop */
        }
    }
}

static void wait_for_something(manager_scheduler_t *scheduler, apr_time_t wake)
{
    struct pollfd fds[3];
    apr_interval_time_t timeout = wake - scheduler->config->now();
    nfds_t n = 2;

    timeout = timeout < POLL_MIN ? POLL_MIN : timeout > POLL_MAX ? POLL_MAX : timeout;
    if (scheduler->unknown > 0)
        timeout = 0;
    memset(fds, 0, sizeof(fds));
    fds[0].fd = base_stop_fd(scheduler->stop);
    fds[1].fd = scheduler->done_pipe[0];
    fds[2].fd = scheduler->config->wake_fd;
    fds[0].events = fds[1].events = fds[2].events = POLLIN;
    if (scheduler->config->wake_fd >= 0)
        n = 3;
    poll(fds, n, (int)apr_time_as_msec(timeout));
}

static void *APR_THREAD_FUNC run_dispatcher(apr_thread_t *thread, void *data)
{
    manager_scheduler_t *scheduler = data;
    apr_pool_t *pool = NULL;

    (void)thread;
    apr_pool_create_unmanaged_ex(&pool, NULL, NULL);
    while (pool != NULL && !base_stop_is_raised(scheduler->stop)) {
        apr_time_t now = scheduler->config->now(), wake = now + POLL_MAX;

        collect_results(scheduler, now);
        take_requests(scheduler, now);
        look_at_unknown(scheduler, pool, now);
        summarize(scheduler, now);
        dispatch(scheduler, pool, now, &wake);
        wait_for_something(scheduler, wake);
    }
    apr_thread_mutex_lock(scheduler->mutex);
    scheduler->leaving = 1;
    apr_thread_cond_broadcast(scheduler->cond);
    apr_thread_mutex_unlock(scheduler->mutex);
    if (pool != NULL)
        apr_pool_destroy(pool);
    apr_atomic_dec32(&scheduler->alive);
    return NULL;
}

/* --- Start and end ------------------------------------------------------------ */

static void make_items(manager_scheduler_t *scheduler, apr_pool_t *pool)
{
    const apr_array_header_t *names = manager_policy_names(scheduler->config->policy);
    int i;

    scheduler->items = apr_pcalloc(pool, sizeof(item_t) * (names->nelts > 0 ? names->nelts : 1));
    scheduler->by_name = apr_hash_make(pool);
    scheduler->nitems = names->nelts;
    for (i = 0; i < names->nelts; i++) {
        item_t *item = &scheduler->items[i];

        item->name = APR_ARRAY_IDX(names, i, const manager_policy_name_t *);
        apr_hash_set(scheduler->by_name, item->name->name, APR_HASH_KEY_STRING, item);
        mark_unknown(scheduler, item);
    }
}

static apr_status_t close_pipe(void *data)
{
    manager_scheduler_t *scheduler = data;

    close(scheduler->done_pipe[0]);
    close(scheduler->done_pipe[1]);
    return APR_SUCCESS;
}

static apr_status_t start_thread(manager_scheduler_t *scheduler, apr_thread_t **thread,
                                 apr_thread_start_t fn, void *data, apr_pool_t *pool)
{
    apr_status_t rv;

    apr_atomic_inc32(&scheduler->alive);
    rv = apr_thread_create(thread, NULL, fn, data, pool);
    if (rv != APR_SUCCESS) {
        *thread = NULL;
        apr_atomic_dec32(&scheduler->alive);
    }
    return rv;
}

static apr_status_t start_threads(manager_scheduler_t *scheduler, apr_pool_t *pool)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < MANAGER_SCHEDULER_WORKERS && rv == APR_SUCCESS; i++) {
        worker_t *worker = &scheduler->worker[i];

        worker->scheduler = scheduler;
        rv = start_thread(scheduler, &worker->thread, run_worker, worker, pool);
    }
    if (i > 1 || rv == APR_SUCCESS)     /* fewer workers than wanted are workers too */
        rv = start_thread(scheduler, &scheduler->dispatcher, run_dispatcher, scheduler, pool);
    return rv;
}

apr_status_t manager_scheduler_start(manager_scheduler_t **out,
                                     const manager_scheduler_config_t *config,
                                     base_stop_t *stop, apr_pool_t *pool)
{
    manager_scheduler_t *scheduler = apr_pcalloc(pool, sizeof(*scheduler));
    acme_client_t *client = NULL;
    apr_status_t rv;

    *out = NULL;
    scheduler->config = config;
    scheduler->stop = stop;
    if ((rv = acme_http_init()) != APR_SUCCESS
        || (rv = acme_client_create(&client, config->ca, stop, config->now, pool)) != APR_SUCCESS
        || (rv = acme_account_create(&scheduler->context.account, client, config->cache, pool))
               != APR_SUCCESS
        || (rv = apr_thread_mutex_create(&scheduler->mutex, APR_THREAD_MUTEX_DEFAULT, pool))
               != APR_SUCCESS
        || (rv = apr_thread_cond_create(&scheduler->cond, pool)) != APR_SUCCESS)
        return rv;
    if (pipe2(scheduler->done_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return errno;
    apr_pool_cleanup_register(pool, scheduler, close_pipe, apr_pool_cleanup_null);
    scheduler->context.cache = config->cache;
    scheduler->context.versions = shared_segment_versions(config->segment);
    scheduler->context.rate = config->rate;
    scheduler->context.test = config->test;
    scheduler->context.now = config->now;
    make_items(scheduler, pool);
    rv = start_threads(scheduler, pool);
    /* Given out also when only some threads could be started: they have to be joined. */
    *out = scheduler;
    return rv;
}

apr_status_t manager_scheduler_join(manager_scheduler_t *scheduler, apr_interval_time_t timeout)
{
    apr_time_t end = apr_time_now() + timeout;
    apr_status_t ignored;
    int i;

    if (scheduler->dispatcher == NULL) {
        apr_thread_mutex_lock(scheduler->mutex);
        scheduler->leaving = 1;
        apr_thread_cond_broadcast(scheduler->cond);
        apr_thread_mutex_unlock(scheduler->mutex);
    }
    while (apr_atomic_read32(&scheduler->alive) > 0) {
        if (apr_time_now() >= end)
            return APR_TIMEUP;
        poll(NULL, 0, 5);
    }
    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++)
        if (scheduler->worker[i].thread != NULL)
            apr_thread_join(&ignored, scheduler->worker[i].thread);
    if (scheduler->dispatcher != NULL)
        apr_thread_join(&ignored, scheduler->dispatcher);
    return APR_SUCCESS;
}
