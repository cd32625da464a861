/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/scheduler.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>

#include "acme/account.h"
#include "base/log.h"
#include "challenge/resolver.h"
#include "manager/calendar.h"
#include "manager/order.h"
#include "manager/queue.h"

#define LOOKS_PER_ROUND 200                         /* names judged before requests are taken again */
#define WALK_PER_ROUND 50                           /* the same of the calendar, which nobody waits for */
#define POLL_MAX apr_time_from_msec(250)            /* requests of an older generation wake nobody */
#define POLL_MIN apr_time_from_msec(1)
#define LOOK_AGAIN apr_time_from_sec(1)             /* one look at the cache per name, asked by clients */
#define BUDGET_LOG_EVERY apr_time_from_sec(3600)
#define WORTH_WAITING apr_time_from_sec(10)         /* a client may wait for an order that begins then */
#define PAUSE_PART 20                               /* no pause is longer than this part of a lifetime */
#define TIDY_EVERY apr_time_from_sec(24 * 3600)
#define CROWDED_RETRY apr_time_from_sec(1)          /* no room in the queue: the client is told "not now" */

typedef struct worker_t {
    manager_scheduler_t *scheduler;
    apr_thread_t *thread;
    manager_queue_item_t *item;     /* to do; guarded by the mutex */
    const manager_ask_endpoint_t *canary;   /* or this: an endpoint to try */
    manager_ca_t *check;            /* or this: a CA that may be well again; all NULL: idle */
    manager_order_task_t task;
    int done;                       /* it was worked on; guarded by the mutex */
    manager_order_result_t result;
    manager_ask_answer_t answer;
    base_error_t trouble;           /* of the endpoint's or the CA's answer */
} worker_t;

/** A host file, and why it could not be read the last time. */
typedef struct watched_t {
    const manager_host_file_t *file;
    apr_status_t reported;
} watched_t;

struct manager_scheduler_t {
    const manager_scheduler_config_t *config;
    base_stop_t *stop;
    manager_order_context_t context;
    manager_queue_t *queue;         /* dispatcher only, but for the name of a running worker's item */
    manager_calendar_t *calendar;
    int dns_running;                /* workers with a name that DNS may prove, as dispatch() knows it */
    int walking;                    /* the calendar has more to look at */
    int summarized;                 /* AC0001 is written */
    apr_array_header_t *endpoints;  /* of const manager_ask_endpoint_t * */
    int canary_next;                /* index of the next one to try */
    apr_time_t canary_at;           /* when all of them are tried again */
    apr_array_header_t *files;      /* of watched_t */
    apr_time_t files_at;
    apr_pool_t *pool;               /* the dispatcher's, for one step */
    apr_time_t tidy_at;             /* when records of no more use are removed */
    apr_thread_mutex_t *mutex;      /* guards the hand-over to the workers */
    apr_thread_cond_t *cond;
    int leaving;                    /* guarded by the mutex: workers end */
    worker_t worker[MANAGER_SCHEDULER_WORKERS];
    apr_thread_t *dispatcher;
    int done_pipe[2];               /* a worker writes when it is done */
    volatile apr_uint32_t alive;    /* threads that have not ended */
};

/* --- Workers ---------------------------------------------------------------- */

static int is_idle(const worker_t *worker)
{
    return worker->item == NULL && worker->canary == NULL && worker->check == NULL;
}

static void *APR_THREAD_FUNC run_worker(apr_thread_t *thread, void *data)
{
    worker_t *worker = data;
    manager_scheduler_t *scheduler = worker->scheduler;
    apr_pool_t *pool = NULL;

    (void)thread;
    apr_pool_create_unmanaged_ex(&pool, NULL, NULL);
    apr_thread_mutex_lock(scheduler->mutex);
    while (pool != NULL) {
        while (!scheduler->leaving && (is_idle(worker) || worker->done))
            apr_thread_cond_wait(scheduler->cond, scheduler->mutex);
        if (scheduler->leaving)
            break;
        apr_thread_mutex_unlock(scheduler->mutex);
        if (worker->item != NULL)
            manager_order_run(&scheduler->context, &worker->task, &worker->result, pool);
        else if (worker->check != NULL)
            acme_client_check(acme_account_client(worker->check->account), pool, &worker->trouble);
        else
            worker->answer = manager_ask_canary(scheduler->context.ask, worker->canary, pool,
                                                &worker->trouble);
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
        if (scheduler->worker[i].thread != NULL && is_idle(&scheduler->worker[i]))
            return &scheduler->worker[i];
    return NULL;
}

/** What a worker is given: one of three. */
typedef struct work_t {
    manager_queue_item_t *item;     /* an item, with its task */
    const manager_order_task_t *task;
    const manager_ask_endpoint_t *canary;
    manager_ca_t *check;
} work_t;

static void hand_over(manager_scheduler_t *scheduler, worker_t *worker, const work_t *work)
{
    apr_thread_mutex_lock(scheduler->mutex);
    if (work->item != NULL) {
        work->item->state = MANAGER_QUEUE_RUNNING;
        worker->task = *work->task;
        manager_ca_at(scheduler->context.cas, work->task->ca)->running++;
    }
    worker->item = work->item;
    worker->canary = work->canary;
    worker->check = work->check;
    worker->done = 0;
    apr_thread_cond_broadcast(scheduler->cond);
    apr_thread_mutex_unlock(scheduler->mutex);
}

/* --- The CAs themselves ------------------------------------------------------- */

static void store_health(manager_scheduler_t *scheduler, const manager_ca_t *ca,
                         const manager_ca_health_t *health)
{
    manager_ca_store(health, ca->config, scheduler->config->cache, scheduler->pool);
    apr_pool_clear(scheduler->pool);
}

/* It gave out its directory: for everybody else it is well. This process sends one order ahead, and
 * remembers how often it failed until that one is answered. */
static void welcome_ca(manager_scheduler_t *scheduler, manager_ca_t *ca)
{
    static const manager_ca_health_t well;

    ca->checked = 1;
    store_health(scheduler, ca, &well);
    base_log(BASE_LOG_INFO, "AC0135", NULL, "CA %s gives out its directory again; the next order is tried "
             "there", ca->config->acme.name);
}

/* An order was answered. */
static void resume_ca(manager_scheduler_t *scheduler, manager_ca_t *ca)
{
    if (ca->health.failures == 0)
        return;
    if (!ca->checked)
        welcome_ca(scheduler, ca);
    base_log(BASE_LOG_NOTICE, "AC0132", NULL, "CA %s answers again; names that waited are obtained now",
             ca->config->acme.name);
    memset(&ca->health, 0, sizeof(ca->health));
    ca->checked = 0;
}

/* The order budget is used up: only what needs none goes on. */
static void note_budget(manager_ca_t *ca, apr_time_t until, apr_time_t now)
{
    const manager_budget_rate_t *rate = &ca->config->rate;
    char when[32];

    ca->budget_until = until > now ? until : now + POLL_MAX;
    if (now - ca->budget_logged < BUDGET_LOG_EVERY)
        return;
    ca->budget_logged = now;
    base_log(BASE_LOG_NOTICE, "AC0131", NULL, "CA %s: the order budget of %d per %" APR_TIME_T_FMT
             " s is used up; names that are due wait, the most urgent until %s", ca->config->acme.name,
             rate->orders, apr_time_sec(rate->period),
             base_log_moment(when, apr_time_sec(until), apr_time_sec(now)));
}

/* What happens to names while a CA is paused. */
static const char *describe_consequence(const manager_scheduler_t *scheduler)
{
    return scheduler->context.cas->nelts > 1
        ? "names without a certificate go to the next CA, renewals wait a while first"
        : "certificates in the cache are served";
}

/* Nobody is sent to a CA that is down or wants a human first. No pause may be longer than what the
 * certificate with the shortest life can bear. */
static void pause_ca(manager_scheduler_t *scheduler, manager_ca_t *ca, const base_error_t *problem,
                     apr_time_t now)
{
    apr_interval_time_t life = manager_queue_shortest_life(scheduler->queue);
    char when[32];

    if (problem->kind == BASE_ERROR_WAIT && problem->status == APR_EAGAIN) {
        note_budget(ca, problem->retry_at, now);
        return;
    }
    ca->checked = 0;
    if (!manager_ca_fail(&ca->health, problem, life > 0 ? life / PAUSE_PART : MANAGER_CA_PAUSE_MAX, now))
        return;
    base_log(BASE_LOG_ERR, "AC0130", NULL, "CA %s: %s%s%s; %s, next try %s (in %" APR_TIME_T_FMT " s)",
             ca->config->acme.name, problem->type, problem->type[0] ? ": " : "", problem->detail,
             describe_consequence(scheduler),
             base_log_moment(when, apr_time_sec(ca->health.until), apr_time_sec(now)),
             apr_time_sec(ca->health.until - now));
    store_health(scheduler, ca, &ca->health);
}

/* What was known of the CAs before this process began: a restart changes none of it. */
static void report_pauses(const manager_scheduler_t *scheduler, apr_time_t now)
{
    char when[32];

    for (int i = 0; i < scheduler->context.cas->nelts; i++) {
        const manager_ca_t *ca = manager_ca_at(scheduler->context.cas, i);
        const base_error_t *problem = &ca->health.problem;

        if (ca->health.failures > 0 && ca->health.until > now)
            base_log(BASE_LOG_WARNING, "AC0134", NULL, "CA %s is left alone since before this start: "
                     "%s%s%s; %s, next try %s", ca->config->acme.name, problem->type,
                     problem->type[0] ? ": " : "", problem->detail, describe_consequence(scheduler),
                     base_log_moment(when, apr_time_sec(ca->health.until), apr_time_sec(now)));
    }
}

/* A CA whose pause is over is asked for its directory, before any name depends on it. */
static void check_cas(manager_scheduler_t *scheduler, apr_time_t now)
{
    worker_t *worker;

    for (int i = 0; i < scheduler->context.cas->nelts; i++) {
        manager_ca_t *ca = manager_ca_at(scheduler->context.cas, i);

        if (manager_ca_wants_check(ca, now) && (worker = find_idle_worker(scheduler)) != NULL) {
            work_t work = { NULL, NULL, NULL, ca };

            ca->checking = 1;
            hand_over(scheduler, worker, &work);
        }
    }
}

static void take_check(manager_scheduler_t *scheduler, manager_ca_t *ca, const base_error_t *trouble,
                       apr_time_t now)
{
    ca->checking = 0;
    if (trouble->kind == BASE_ERROR_NONE)
        welcome_ca(scheduler, ca);
    else if (trouble->kind != BASE_ERROR_CANCELLED)
        pause_ca(scheduler, ca, trouble, now);
}

/* --- Where an item can go ------------------------------------------------------ */

static void choose_ca(const manager_scheduler_t *scheduler, const manager_queue_item_t *item,
                      manager_ca_choice_t *choice, apr_time_t now)
{
    manager_ca_need_t need;

    need.avoid = item->avoid;
    need.saved = item->saved;
    need.due = item->not_after > now ? item->due : 0;
    need.lifetime = item->not_after > now ? item->not_after - item->not_before : 0;
    manager_ca_choose(choice, scheduler->context.cas, &need, now);
}

static int place(void *baton, manager_queue_item_t *item, apr_time_t now, apr_time_t *wake)
{
    const manager_scheduler_t *scheduler = baton;
    manager_ca_choice_t choice;

    if (scheduler->dns_running >= MANAGER_SCHEDULER_DNS_WORKERS && manager_policy_uses_dns(&item->name))
        return 0;       /* a worker that ends wakes the dispatcher */
    if (manager_queue_only_asks(item, now)) {
        const manager_ca_t *ca = item->issuer >= 0 ? manager_ca_at(scheduler->context.cas, item->issuer)
                                                   : NULL;

        choice.ca = ca != NULL && manager_ca_is_usable(ca, now) ? item->issuer : -1;
        choice.when = ca != NULL ? ca->health.until : item->due;
    }
    else {
        choose_ca(scheduler, item, &choice, now);
    }
    if (choice.ca < 0 && choice.when > now && choice.when < *wake)
        *wake = choice.when;
    if (choice.ca >= 0)
        item->ca = choice.ca;
    return choice.ca >= 0;
}

/* --- Wishes and their answers ------------------------------------------------ */

static void answer(manager_scheduler_t *scheduler, manager_queue_item_t *item,
                   shared_requests_answer_t what, apr_time_t until, apr_time_t now)
{
    shared_requests_wish_t wish;
    int i;

    memset(&wish, 0, sizeof(wish));
    apr_cpystrn(wish.name, item->name.name, sizeof(wish.name));
    wish.kind = (apr_uint32_t)item->name.kind;
    for (i = 0; i < item->vhost_count; i++) {
        wish.vhost = item->vhosts[i];
        shared_requests_answer(shared_segment_requests(scheduler->config->segment), &wish, what, until, now);
    }
    item->vhost_count = 0;
    item->waiting = 0;
}

/* When something can be done about an item that is due: what holds the CAs back holds it back too, but for
 * a CA that is down, which may be back any moment. */
static apr_time_t possible_at(const manager_scheduler_t *scheduler, const manager_queue_item_t *item,
                              apr_time_t now)
{
    manager_ca_choice_t choice;

    if (item->next > now)
        return item->next;
    choose_ca(scheduler, item, &choice, now);
    return choice.ca < 0 && choice.refused && choice.when > now ? choice.when : item->next;
}

/* May whoever waits for it still be served? Another process may be about to end, the CA may come back. */
static int is_worth_waiting(const manager_queue_item_t *item, apr_time_t at, apr_time_t now)
{
    if (item->problem == BASE_ERROR_REFUSED)
        return 0;
    return item->problem == BASE_ERROR_BUSY || item->problem == BASE_ERROR_CANCELLED
        || item->problem == BASE_ERROR_CA_DOWN || at <= now + WORTH_WAITING;
}

/* Something was found out about an item: tell those who wait, and let a passing one go that has nothing
 * to do before the calendar would find it again. */
static void conclude(manager_scheduler_t *scheduler, manager_queue_item_t *item, apr_time_t now)
{
    apr_time_t at = possible_at(scheduler, item, now);

    manager_calendar_note_lifetime(scheduler->calendar, item->not_after - item->not_before, now);
    if (item->state != MANAGER_QUEUE_SETTLED || at <= now)
        return;
    if (item->problem == BASE_ERROR_NONE && item->next > now)
        answer(scheduler, item, SHARED_REQUESTS_NONE, 0, now);
    else if (!is_worth_waiting(item, at, now))
        answer(scheduler, item, item->problem == BASE_ERROR_REFUSED ? SHARED_REQUESTS_REFUSED
                                                                  : SHARED_REQUESTS_FAILED, at, now);
    if (item->passing && !item->waiting
        && (manager_calendar_will_find(scheduler->calendar, at, now)
            || manager_queue_draws_on_demand(item, now)))
        manager_queue_remove(scheduler->queue, item);
}

/* --- The dispatcher's round, in its order ------------------------------------ */

static void report_canary(const manager_ask_endpoint_t *canary, manager_ask_answer_t said,
                          const base_error_t *trouble)
{
    int shown = (int)strcspn(canary->url, "?");     /* the query may hold a secret */

    if (said == MANAGER_ASK_YES)
        base_log(BASE_LOG_CRIT, "AC0151", NULL, "AutocertHostPolicy ask %.*s says yes to a name that nobody "
                 "can own: anybody can have certificates ordered here; make it say no to names that are not "
                 "yours. It is tried again in an hour", shown, canary->url);
    else if (said == MANAGER_ASK_TROUBLE && trouble->kind != BASE_ERROR_CANCELLED)
        base_log(BASE_LOG_WARNING, "AC0152", NULL, "AutocertHostPolicy ask %.*s gives no usable answer: %s; "
                 "names that only it could allow are refused until it does", shown, canary->url,
                 trouble->detail);
}

/* What a worker has done: the order of an item. */
static void take_result(manager_scheduler_t *scheduler, manager_queue_item_t *item, manager_ca_t *ca,
                        const manager_order_result_t *result, apr_time_t now)
{
    ca->running--;
    manager_queue_settle(item, result);
    if (result->refunded)
        ca->budget_until = 0;
    if (result->scope == MANAGER_ORDER_SCOPE_CA)
        pause_ca(scheduler, ca, &result->problem, now);
    else if (result->answered)
        resume_ca(scheduler, ca);
    conclude(scheduler, item, now);
}

/* What was given to the worker, with the worker idle again; all NULL when it is not done. */
static work_t take_back(manager_scheduler_t *scheduler, worker_t *worker)
{
    work_t work = { NULL, NULL, NULL, NULL };

    apr_thread_mutex_lock(scheduler->mutex);
    if (!is_idle(worker) && worker->done) {
        work.item = worker->item;
        work.canary = worker->canary;
        work.check = worker->check;
        worker->item = NULL;
        worker->canary = NULL;
        worker->check = NULL;
        worker->done = 0;
    }
    apr_thread_mutex_unlock(scheduler->mutex);
    return work;
}

/* An idle worker touches nothing of its own until this thread gives it something. */
static void collect_results(manager_scheduler_t *scheduler, apr_time_t now)
{
    char drain[64];
    int i;

    while (read(scheduler->done_pipe[0], drain, sizeof(drain)) > 0)
        ;
    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++) {
        worker_t *worker = &scheduler->worker[i];
        work_t work = take_back(scheduler, worker);

        if (work.item != NULL)
            take_result(scheduler, work.item, manager_ca_at(scheduler->context.cas, worker->task.ca),
                        &worker->result, now);
        else if (work.canary != NULL)
            report_canary(work.canary, worker->answer, &worker->trouble);
        else if (work.check != NULL)
            take_check(scheduler, work.check, &worker->trouble, now);
    }
}

/* The name, settings and kind that a wish means. @return zero when nobody has or allows it any more */
static int understand(const manager_scheduler_t *scheduler, const shared_requests_wish_t *wish,
                      manager_policy_name_t *name)
{
    const manager_policy_t *policy = scheduler->config->policy;
    const manager_policy_vhost_t *vhost;

    memset(name, 0, sizeof(*name));
    if (wish->vhost == 0) {
        const manager_policy_name_t *listed = manager_policy_find(policy, wish->name);

        if (listed == NULL)
            return 0;
        *name = *listed;
    }
    else {
        vhost = manager_policy_find_vhost(policy, wish->vhost);
        if (vhost == NULL || manager_policy_judge(vhost, wish->name) == MANAGER_POLICY_NO)
            return 0;
        name->name = wish->name;
        name->settings = vhost->settings;
        name->vhost = vhost;
    }
    name->kind = (int)wish->kind;
    return name->kind < name->settings->kinds;
}

static void take_wish(manager_scheduler_t *scheduler, const shared_requests_wish_t *wish, apr_time_t now)
{
    shared_requests_t *requests = shared_segment_requests(scheduler->config->segment);
    manager_policy_name_t name;
    manager_queue_item_t *item;

    if (!understand(scheduler, wish, &name)) {
        shared_requests_answer(requests, wish, SHARED_REQUESTS_NONE, 0, now);
        return;
    }
    item = manager_queue_find(scheduler->queue, &name);
    if (item == NULL)
        item = manager_queue_add(scheduler->queue, &name);
    if (item == NULL) {
        shared_requests_answer(requests, wish, SHARED_REQUESTS_FAILED, now + CROWDED_RETRY, now);
        return;
    }
    if (!manager_queue_wish(item, wish->vhost, wish->client))
        shared_requests_answer(requests, wish, SHARED_REQUESTS_FAILED, now + CROWDED_RETRY, now);
    if (item->state != MANAGER_QUEUE_SETTLED || item->next <= now)
        return;
    /* It was thought to be there and a client found nothing: look again, but not for each of many
     * clients. A name that failed waits for its next try, whoever asks. */
    if (item->problem == BASE_ERROR_NONE && now - item->looked > LOOK_AGAIN)
        manager_queue_mark_unknown(scheduler->queue, item);
    else
        conclude(scheduler, item, now);
}

static void take_wishes(manager_scheduler_t *scheduler, apr_time_t now)
{
    shared_requests_t *requests = shared_segment_requests(scheduler->config->segment);
    shared_requests_wish_t wish;
    unsigned int cursor = 0;
    char drain[64];

    if (scheduler->config->wake_fd >= 0)
        while (read(scheduler->config->wake_fd, drain, sizeof(drain)) > 0)
            ;
    while (shared_requests_take(requests, &cursor, &wish, now))
        take_wish(scheduler, &wish, now);
}

static void look_at_unknown(manager_scheduler_t *scheduler, apr_time_t now)
{
    manager_queue_item_t *item;
    int looks = 0;

    while (looks++ < LOOKS_PER_ROUND && (item = manager_queue_next_unknown(scheduler->queue)) != NULL) {
        manager_order_result_t result;

        manager_order_look(&scheduler->context, &item->name, &result, scheduler->pool);
        apr_pool_clear(scheduler->pool);
        item->looked = now;
        manager_queue_settle(item, &result);
        if (item->waiting && result.not_after > now)
            manager_order_publish(&scheduler->context, &item->name);
        conclude(scheduler, item, now);
    }
}

/* Files that changed are read again; new names of one with preload are obtained soon. */
static void compare_files(manager_scheduler_t *scheduler, apr_time_t now)
{
    int i;

    if (now < scheduler->files_at)
        return;
    scheduler->files_at = now + MANAGER_SCHEDULER_FILES_EVERY;
    for (i = 0; i < scheduler->files->nelts; i++) {
        watched_t *watched = &APR_ARRAY_IDX(scheduler->files, i, watched_t);

        if (manager_host_file_load(watched->file, &watched->reported, now, scheduler->pool) == APR_SUCCESS)
            manager_calendar_hurry(scheduler->calendar, now);
        apr_pool_clear(scheduler->pool);
    }
}

/* One line that tells an administrator where things stand, once all names were looked at. */
static void summarize(manager_scheduler_t *scheduler, apr_time_t now)
{
    const manager_scheduler_config_t *config = scheduler->config;
    int names, valid, demand = manager_policy_vhosts(config->policy)->nelts;
    apr_time_t first;
    char date[16], expires[48] = "", more[64] = "", cas[256] = "";

    if (scheduler->summarized || manager_queue_has_unknown(scheduler->queue))
        return;
    scheduler->summarized = 1;
    manager_queue_count(scheduler->queue, now, &names, &valid, &first);
    if (first > 0)
        apr_snprintf(expires, sizeof(expires), " (first expires %s)",
                     base_log_date(date, apr_time_sec(first)));
    if (demand > 0)
        apr_snprintf(more, sizeof(more), "; on demand in %d vhost%s", demand, demand == 1 ? "" : "s");
    for (int i = 0; i < config->cas->nelts; i++)
        apr_snprintf(cas + strlen(cas), sizeof(cas) - strlen(cas), "%s%s", i > 0 ? ", then " : "",
                     APR_ARRAY_IDX(config->cas, i, const manager_ca_config_t *)->acme.name);
    base_log(BASE_LOG_NOTICE, "AC0001", NULL, "%d name%s in %d vhost%s: %d valid%s, %d to obtain%s; "
             "CA %s; cache %s", names, names == 1 ? "" : "s", config->vhosts,
             config->vhosts == 1 ? "" : "s", valid, expires, names - valid, more, cas, config->cache_text);
}

static void tidy(manager_scheduler_t *scheduler, apr_time_t now)
{
    if (now < scheduler->tidy_at)
        return;
    scheduler->tidy_at = now + TIDY_EVERY;
    for (int i = 0; i < scheduler->context.cas->nelts; i++) {
        const manager_ca_config_t *ca = manager_ca_at(scheduler->context.cas, i)->config;

        manager_budget_tidy(scheduler->config->cache, ca->acme.id, &ca->rate, now, scheduler->stop,
                            scheduler->pool);
        apr_pool_clear(scheduler->pool);
    }
}

/* What an order of an on-demand name would cost is used up, for all of them or for those of one owner. */
static void hold_back(manager_scheduler_t *scheduler, manager_queue_item_t *item, apr_time_t until,
                      apr_time_t now)
{
    static base_log_limit_t limit;
    char others[BASE_LOG_OTHERS_SIZE], when[32];

    item->next = until > now ? until : now + POLL_MAX;
    item->problem = BASE_ERROR_WAIT;
    if (base_log_limit(&limit, apr_time_sec(now), 1, others))
        base_log(BASE_LOG_NOTICE, "AC0133", item->name.name, "not ordered: the share of the order budget for "
                 "names on demand, or for those of its owner, is used up%s; a client that comes after %s may "
                 "cause it", others, base_log_moment(when, apr_time_sec(item->next), apr_time_sec(now)));
    conclude(scheduler, item, now);
}

typedef enum {
    FUND_GO,            /* it can go to a worker */
    FUND_NEXT,          /* this one cannot, another may */
    FUND_STOP           /* the budget's lock is busy, or this process is asked to stop */
} fund_t;

/* Pay for an item here, not in its worker: workers would race for the last order, and the most
 * urgent name might lose. */
static fund_t fund(manager_scheduler_t *scheduler, manager_queue_item_t *item, manager_order_task_t *task,
                   apr_time_t now)
{
    cache_t *cache = scheduler->config->cache;
    manager_ca_t *ca = manager_ca_at(scheduler->context.cas, item->ca);
    const manager_budget_rate_t *rate = &ca->config->rate;
    const char *id = ca->config->acme.id;
    int everybody = 1;
    apr_time_t when = 0;
    apr_status_t rv;

    memset(task, 0, sizeof(*task));
    task->name = &item->name;
    task->ca = item->ca;
    task->client = item->client;
    task->demand = manager_queue_draws_on_demand(item, now);
    if (rate->orders == 0 || item->saved == item->ca || manager_queue_only_asks(item, now))
        return FUND_GO;
    rv = task->demand ? manager_budget_take_demand(cache, id, rate, item->name.name, now, &when, &everybody,
                                                   scheduler->stop, scheduler->pool)
                      : manager_budget_take(cache, id, rate, now, &when, scheduler->stop, scheduler->pool);
    apr_pool_clear(scheduler->pool);
    task->funded = rv == APR_SUCCESS;
    if (rv == APR_EAGAIN && everybody)
        note_budget(ca, when, now);
    else if (rv == APR_EAGAIN)
        hold_back(scheduler, item, when, now);
    if (rv == APR_EAGAIN)
        return FUND_NEXT;
    /* A cache that fails is for the worker to find out, and to report with the name. */
    return rv == APR_EBUSY || rv == APR_EINTR ? FUND_STOP : FUND_GO;
}

/* Ask each endpoint about a name that nobody can own: at the start, and hourly. */
static void try_canaries(manager_scheduler_t *scheduler, apr_time_t now)
{
    worker_t *worker;

    if (scheduler->canary_next >= scheduler->endpoints->nelts && now >= scheduler->canary_at) {
        scheduler->canary_next = 0;
        scheduler->canary_at = now + MANAGER_SCHEDULER_CANARY_EVERY;
    }
    while (scheduler->canary_next < scheduler->endpoints->nelts
           && (worker = find_idle_worker(scheduler)) != NULL) {
        work_t work = { NULL, NULL, NULL, NULL };

        work.canary = APR_ARRAY_IDX(scheduler->endpoints, scheduler->canary_next,
                                    const manager_ask_endpoint_t *);
        hand_over(scheduler, worker, &work);
        scheduler->canary_next++;
    }
}

/* Workers with an order that draws on the share of on-demand names. */
static int count_demand(const manager_scheduler_t *scheduler)
{
    int demand = 0, i;

    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++) {
        const worker_t *worker = &scheduler->worker[i];

        demand += worker->item != NULL && worker->task.demand;
    }
    return demand;
}

/* Those with a name that DNS may prove. */
static int count_dns(const manager_scheduler_t *scheduler)
{
    int dns = 0, i;

    for (i = 0; i < MANAGER_SCHEDULER_WORKERS; i++) {
        const worker_t *worker = &scheduler->worker[i];

        dns += worker->item != NULL && manager_policy_uses_dns(&worker->item->name);
    }
    return dns;
}

/* Hand out what is due. */
static void dispatch(manager_scheduler_t *scheduler, apr_time_t now,
                     apr_time_t *wake)
{
    int demand = count_demand(scheduler);
    fund_t funding = FUND_GO;
    worker_t *worker;

    scheduler->dns_running = count_dns(scheduler);
    while (funding != FUND_STOP && (worker = find_idle_worker(scheduler)) != NULL) {
        manager_queue_item_t *item = manager_queue_choose(scheduler->queue, now, place, scheduler,
                                                          demand >= MANAGER_SCHEDULER_DEMAND_WORKERS, wake);
        manager_order_task_t task;
        work_t work = { item, &task, NULL, NULL };

        if (item == NULL)
            return;
        funding = fund(scheduler, item, &task, now);
        if (funding == FUND_GO) {
            hand_over(scheduler, worker, &work);
            demand += task.demand;
            scheduler->dns_running += manager_policy_uses_dns(&item->name);
        }
    }
}

static void wait_for_something(manager_scheduler_t *scheduler, apr_time_t wake)
{
    struct pollfd fds[3];
    apr_interval_time_t timeout = wake - scheduler->config->now();
    nfds_t n = 2;

    timeout = timeout < POLL_MIN ? POLL_MIN : timeout > POLL_MAX ? POLL_MAX : timeout;
    if (manager_queue_has_unknown(scheduler->queue) || scheduler->walking)
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

    (void)thread;
    apr_pool_create_unmanaged_ex(&scheduler->pool, NULL, NULL);
    shared_requests_rewind(shared_segment_requests(scheduler->config->segment));
    report_pauses(scheduler, scheduler->config->now());
    while (scheduler->pool != NULL && !base_stop_is_raised(scheduler->stop)) {
        apr_time_t now = scheduler->config->now(), wake = now + POLL_MAX;

        collect_results(scheduler, now);
        take_wishes(scheduler, now);
        look_at_unknown(scheduler, now);
        summarize(scheduler, now);
        check_cas(scheduler, now);
        dispatch(scheduler, now, &wake);
        try_canaries(scheduler, now);
        compare_files(scheduler, now);
        tidy(scheduler, now);
        scheduler->walking = manager_calendar_walk(scheduler->calendar, scheduler->queue, WALK_PER_ROUND,
                                                   now);
        wait_for_something(scheduler, wake);
    }
    apr_thread_mutex_lock(scheduler->mutex);
    scheduler->leaving = 1;
    apr_thread_cond_broadcast(scheduler->cond);
    apr_thread_mutex_unlock(scheduler->mutex);
    if (scheduler->pool != NULL)
        apr_pool_destroy(scheduler->pool);
    apr_atomic_dec32(&scheduler->alive);
    return NULL;
}

/* --- Start and end ------------------------------------------------------------ */

/* Each endpoint and file once, however many vhosts share it. */
static int has_endpoint(const apr_array_header_t *endpoints, const manager_ask_endpoint_t *endpoint)
{
    int i;

    for (i = 0; i < endpoints->nelts; i++)
        if (APR_ARRAY_IDX(endpoints, i, const manager_ask_endpoint_t *) == endpoint)
            return 1;
    return 0;
}

static int is_watched(const apr_array_header_t *files, const manager_host_file_t *file)
{
    int i;

    for (i = 0; i < files->nelts; i++)
        if (APR_ARRAY_IDX(files, i, watched_t).file->names == file->names)
            return 1;
    return 0;
}

static void list_rules(manager_scheduler_t *scheduler, apr_pool_t *pool)
{
    const apr_array_header_t *vhosts = manager_policy_vhosts(scheduler->config->policy);
    int v, r;

    scheduler->endpoints = apr_array_make(pool, 2, sizeof(const manager_ask_endpoint_t *));
    scheduler->files = apr_array_make(pool, 2, sizeof(watched_t));
    for (v = 0; v < vhosts->nelts; v++) {
        const apr_array_header_t *rules = APR_ARRAY_IDX(vhosts, v, const manager_policy_vhost_t *)->rules;

        for (r = 0; r < rules->nelts; r++) {
            const manager_policy_rule_t *rule = &APR_ARRAY_IDX(rules, r, manager_policy_rule_t);

            if (rule->ask != NULL && !has_endpoint(scheduler->endpoints, rule->ask))
                APR_ARRAY_PUSH(scheduler->endpoints, const manager_ask_endpoint_t *) = rule->ask;
            if (rule->file != NULL && rule->file->names != NULL
                && !is_watched(scheduler->files, rule->file)) {
                watched_t *watched = apr_array_push(scheduler->files);

                watched->file = rule->file;
                watched->reported = APR_SUCCESS;
            }
        }
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
    apr_status_t rv;

    *out = NULL;
    scheduler->config = config;
    scheduler->stop = stop;
    list_rules(scheduler, pool);
    scheduler->canary_next = scheduler->endpoints->nelts;
    if ((rv = acme_http_init()) != APR_SUCCESS || (rv = challenge_resolver_init()) != APR_SUCCESS
        || (rv = manager_ca_create(&scheduler->context.cas, config->cas, config->cache, stop, config->now,
                                   pool)) != APR_SUCCESS
        || (rv = manager_ask_create(&scheduler->context.ask, scheduler->endpoints, stop, config->now, pool))
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
    scheduler->context.configs = config->cas;
    scheduler->context.now = config->now;
    scheduler->context.present = config->present;
    scheduler->context.listeners = config->listeners;
    scheduler->queue = manager_queue_create(config->policy, pool);
    scheduler->calendar = manager_calendar_create(config->policy, &scheduler->context, config->visits, pool);
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
