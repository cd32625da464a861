/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/watchdog.h"

#include <poll.h>
#include <string.h>

#include <apr_atomic.h>
#include <apr_optional.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <http_log.h>
#include <mod_watchdog.h>
#include <util_mutex.h>

#include "base/stop.h"
#include "cache/dir.h"
#include "httpd/cas.h"
#include "httpd/config.h"
#include "httpd/listeners.h"
#include "httpd/runtime.h"
#include "manager/scheduler.h"

APLOG_USE_MODULE(autocert);

#define MUTEX_TYPE "autocert-watchdog"
#define INSTANCE "_autocert_"
#define TICK apr_time_from_msec(100)
#define LEAVE_WITHIN apr_time_from_msec(900)    /* httpd complains about a child after 3 s */
#define START_AGAIN apr_time_from_sec(10)       /* after the threads could not be started */
#define SWEEP_AGE apr_time_from_sec(3600)       /* temporary files of writers that were killed */

/** Who may join the scheduler's threads; they are joined once. */
enum { SCHEDULER_NONE, SCHEDULER_RUNNING, SCHEDULER_JOINING, SCHEDULER_JOINED };

static struct {
    server_rec *server;
    apr_proc_mutex_t *mutex;
    apr_pool_t *pool;                   /* of the scheduler: used by the watchdog thread, freed when joined */
    base_stop_t *stop;
    volatile apr_uint32_t in_callback;
    volatile apr_uint32_t left;         /* pchild goes, and the mutex with it: the callback is over */
    int owner;                          /* watchdog thread only */
    apr_os_thread_t owner_thread;
    apr_time_t start_at;                /* not before */
    volatile apr_uint32_t state;
    manager_scheduler_t *scheduler;
    manager_scheduler_config_t config;
} watchdog;

/* Join the threads if nobody else does. The stop is raised. @return non-zero when they are gone */
static int join_scheduler(apr_interval_time_t timeout)
{
    if (apr_atomic_cas32(&watchdog.state, SCHEDULER_JOINING, SCHEDULER_RUNNING) == SCHEDULER_RUNNING) {
        apr_status_t rv = manager_scheduler_join(watchdog.scheduler, timeout);

        apr_atomic_set32(&watchdog.state, rv == APR_SUCCESS ? SCHEDULER_JOINED : SCHEDULER_RUNNING);
    }
    return apr_atomic_read32(&watchdog.state) == SCHEDULER_JOINED
           || apr_atomic_read32(&watchdog.state) == SCHEDULER_NONE;
}

/* The mutex belongs to a thread under some mechanisms: only that one gives it back. */
static void resign(void)
{
    if (watchdog.owner && apr_os_thread_equal(watchdog.owner_thread, apr_os_thread_current())
        && join_scheduler(0)) {
        apr_proc_mutex_unlock(watchdog.mutex);
        watchdog.owner = 0;
    }
}

static void describe(manager_scheduler_config_t *config, cache_t *cache)
{
    const httpd_config_global_t *global = httpd_config_global();
    const httpd_runtime_t *runtime = httpd_runtime();

    config->policy = global->policy;
    config->vhosts = global->vhosts;
    config->cache_text = global->cache_argument;
    config->cas = httpd_cas_list(watchdog.pool);
    config->cache = cache;
    config->segment = runtime->segment;
    config->present = runtime->present;
    config->visits = runtime->visits;
    config->listeners = httpd_listeners_list(watchdog.server, watchdog.pool);
    config->wake_fd = runtime->wake_fd[0];
    config->now = apr_time_now;
}

static void start_scheduler(void)
{
    const httpd_config_global_t *global = httpd_config_global();
    cache_t *cache = NULL;
    apr_status_t rv;

    /* Without shared memory nobody would learn of a certificate; it was logged at start. */
    if (apr_atomic_read32(&watchdog.state) != SCHEDULER_NONE || apr_time_now() < watchdog.start_at
        || httpd_runtime()->segment == NULL)
        return;
    if (strcmp(global->cache_kind, CACHE_DIR_KIND) == 0)
        cache_dir_sweep(global->cache_argument, apr_time_now(), SWEEP_AGE, watchdog.pool);
    rv = cache_open(&cache, global->cache_provider, global->cache_argument, watchdog.pool);
    if (rv == APR_SUCCESS) {
        describe(&watchdog.config, cache);
        rv = manager_scheduler_start(&watchdog.scheduler, &watchdog.config, watchdog.stop, watchdog.pool);
    }
    if (watchdog.scheduler != NULL)
        apr_atomic_set32(&watchdog.state, SCHEDULER_RUNNING);
    if (rv == APR_SUCCESS)
        return;
    watchdog.start_at = apr_time_now() + START_AGAIN;
    ap_log_error(APLOG_MARK, APLOG_CRIT, rv, watchdog.server, "AC0040: autocert: the threads that obtain "
                 "certificates could not all be started; certificates in the cache are served%s",
                 watchdog.scheduler ? "" : ", next try in 10 s");
}

static void take_part(int state)
{
    if (watchdog.stop == NULL)
        return;
    if (state == AP_WATCHDOG_STATE_STOPPING)
        base_stop_raise(watchdog.stop);
    if (base_stop_is_raised(watchdog.stop)) {
        resign();
        return;
    }
    if (!watchdog.owner && apr_proc_mutex_trylock(watchdog.mutex) == APR_SUCCESS) {
        watchdog.owner = 1;
        watchdog.owner_thread = apr_os_thread_current();
    }
    if (watchdog.owner)
        start_scheduler();
}

/* Returns APR_SUCCESS always: anything else would end the callback for good, mutex in hand. */
static apr_status_t tick(int state, void *data, apr_pool_t *pool)
{
    (void)data;
    (void)pool;
    apr_atomic_inc32(&watchdog.in_callback);
    if (!apr_atomic_read32(&watchdog.left))
        take_part(state);
    apr_atomic_dec32(&watchdog.in_callback);
    return APR_SUCCESS;
}

void httpd_watchdog_register_mutex(apr_pool_t *pconf)
{
    ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0);
}

void httpd_watchdog_prepare(apr_pool_t *pconf, server_rec *s)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) *get_instance;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) *register_callback;
    ap_watchdog_t *instance = NULL;
    apr_status_t rv = APR_ENOTIMPL;

    watchdog.server = s;
    get_instance = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    register_callback = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    if (get_instance != NULL && register_callback != NULL
        && (rv = ap_proc_mutex_create(&watchdog.mutex, NULL, MUTEX_TYPE, NULL, s, pconf, 0)) == APR_SUCCESS
        && (rv = get_instance(&instance, INSTANCE, 0, 0, pconf)) == APR_SUCCESS)
        rv = register_callback(instance, TICK, &watchdog, tick);
    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "AC0041: autocert: no watchdog; certificates in the "
                     "cache are served, none is obtained");
}

/* Before any pool below pchild goes, and on every orderly way out of every MPM. Threads that are left
 * running would meet OpenSSL's clean-up at exit. In prefork this may run in a signal handler
 * on the main thread: no lock, and an end to each wait. */
static apr_status_t leave(void *data)
{
    apr_time_t end = apr_time_now() + LEAVE_WITHIN;

    (void)data;
    base_stop_raise(watchdog.stop);
    /* The watchdog's thread outlives pchild: from here on its ticks do nothing. */
    apr_atomic_set32(&watchdog.left, 1);
    while (apr_atomic_read32(&watchdog.in_callback) > 0 && apr_time_now() < end)
        poll(NULL, 0, 5);
    while (!join_scheduler(end - apr_time_now()) && apr_time_now() < end)
        poll(NULL, 0, 5);
    return APR_SUCCESS;
}

void httpd_watchdog_child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv;

    watchdog.server = s;
    watchdog.owner = 0;
    apr_atomic_set32(&watchdog.left, 0);
    apr_atomic_set32(&watchdog.state, SCHEDULER_NONE);
    if (watchdog.mutex == NULL)
        return;
    rv = apr_proc_mutex_child_init(&watchdog.mutex, apr_proc_mutex_lockfile(watchdog.mutex), pchild);
    /* A root pool: it must outlive pchild when a thread does not end in time. */
    if (rv == APR_SUCCESS)
        rv = apr_pool_create_unmanaged_ex(&watchdog.pool, NULL, NULL);
    if (rv == APR_SUCCESS)
        rv = base_stop_create(&watchdog.stop, watchdog.pool);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "AC0042: autocert: this child cannot take part in "
                     "obtaining certificates; others do");
        watchdog.stop = NULL;
        return;
    }
    apr_pool_pre_cleanup_register(pchild, NULL, leave);
}

void httpd_watchdog_child_stopping(apr_pool_t *pchild, int graceful)
{
    (void)pchild;
    (void)graceful;
    if (watchdog.stop != NULL)
        base_stop_raise(watchdog.stop);
}
