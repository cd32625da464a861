/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/demand.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <ap_mpm.h>
#include <apr_network_io.h>
#include <apr_portable.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

#include "base/log.h"
#include "httpd/config.h"
#include "httpd/runtime.h"

APLOG_USE_MODULE(autocert);

#define STEP_MS 20          /* between two looks; a certificate that was stored is noticed within it */

static void describe(shared_requests_wish_t *wish, const manager_policy_name_t *name, const char *client)
{
    memset(wish, 0, sizeof(*wish));
    apr_cpystrn(wish->name, name->name, sizeof(wish->name));
    apr_cpystrn(wish->client, client, sizeof(wish->client));
    wish->vhost = name->vhost != NULL ? name->vhost->id : 0;
    wish->kind = (apr_uint32_t)name->kind;
}

shared_requests_answer_t httpd_demand_known(const manager_policy_name_t *name, apr_time_t now)
{
    shared_segment_t *segment = httpd_runtime()->segment;
    shared_requests_wish_t wish;

    if (segment == NULL)
        return SHARED_REQUESTS_NONE;
    describe(&wish, name, "");
    return shared_requests_find(shared_segment_requests(segment), &wish, now);
}

/* --- On whose account --- */

static int is_listed_exempt(apr_sockaddr_t *address)
{
    const apr_array_header_t *except = httpd_config_global()->client_except;
    int i;

    for (i = 0; i < except->nelts; i++)
        if (apr_ipsubnet_test(APR_ARRAY_IDX(except, i, apr_ipsubnet_t *), address))
            return 1;
    return 0;
}

/* Once in the life of a child: behind a balancer that hides its clients, none of them is limited. */
static void warn_of_private(const conn_rec *c, const manager_policy_name_t *name)
{
    static volatile apr_uint32_t warned;

    if (shared_clients_is_private(c->client_addr) && !is_listed_exempt(c->client_addr)
        && apr_atomic_cas32(&warned, 1, 0) == 0)
        ap_log_cerror(APLOG_MARK, APLOG_WARNING, 0, c, "AC0341: autocert: %s: a client with the private "
                      "address %s caused an order, which AutocertClientLimit does not count. Is it a "
                      "balancer? Then limit clients there; \"AutocertClientLimit N PERIOD except NETWORK\" "
                      "says that you know, and this is not logged again", name->name, c->client_ip);
}

static void report_limit(const conn_rec *c, const manager_policy_name_t *name, apr_time_t now)
{
    static base_log_limit_t limit;
    const shared_clients_limit_t *rate = &httpd_config_global()->client_limit;
    char others[BASE_LOG_OTHERS_SIZE];

    if (base_log_limit(&limit, apr_time_sec(now), 1, others))
        ap_log_cerror(APLOG_MARK, APLOG_NOTICE, 0, c, "AC0340: autocert: %s: not ordered: the network of %s "
                      "has caused its %d orders per %" APR_TIME_T_FMT " s (AutocertClientLimit)%s; "
                      "certificates that are there are served, other clients may cause it", name->name,
                      c->client_ip, rate->orders, apr_time_sec(rate->period), others);
}

/* May this client cause an order? *counted says whether it has to be given back when it was not needed. */
static int may_cause(const conn_rec *c, const manager_policy_name_t *name, int *counted, apr_time_t now)
{
    const shared_clients_limit_t *rate = &httpd_config_global()->client_limit;

    *counted = 0;
    if (!manager_policy_is_on_demand(name) || rate->orders == 0
        || shared_clients_is_private(c->client_addr) || is_listed_exempt(c->client_addr))
        return 1;
    *counted = shared_clients_take(shared_segment_clients(httpd_runtime()->segment), c->client_addr, rate,
                                   now);
    if (!*counted)
        report_limit(c, name, now);
    return *counted;
}

/* --- Wishes --- */

static void wake_elected(void)
{
    int fd = httpd_runtime()->wake_fd[1];

    /* A full pipe is as good: somebody else's byte wakes the same reader. */
    if (fd >= 0 && write(fd, "", 1) < 0)
        return;
}

int httpd_demand_wish(conn_rec *c, const manager_policy_name_t *name, apr_time_t now)
{
    shared_segment_t *segment = httpd_runtime()->segment;
    shared_requests_wish_t wish;
    shared_requests_answer_t known;
    shared_requests_added_t added;
    int counted;

    if (segment == NULL)
        return 0;
    describe(&wish, name, c->client_ip);
    known = shared_requests_find(shared_segment_requests(segment), &wish, now);
    if (known != SHARED_REQUESTS_NONE)
        return known == SHARED_REQUESTS_PENDING;
    if (!may_cause(c, name, &counted, now))
        return 0;
    added = shared_requests_add(shared_segment_requests(segment), &wish, now);
    if (added == SHARED_REQUESTS_ADDED) {
        wake_elected();
        if (manager_policy_is_on_demand(name) && httpd_config_global()->client_limit.orders > 0)
            warn_of_private(c, name);
        return 1;
    }
    if (counted)
        shared_clients_return(shared_segment_clients(segment), c->client_addr,
                              &httpd_config_global()->client_limit, now);
    return added == SHARED_REQUESTS_KNOWN;
}

void httpd_demand_restore(const manager_policy_name_t *name, apr_time_t now)
{
    shared_segment_t *segment = httpd_runtime()->segment;
    shared_requests_wish_t wish;

    if (segment == NULL)
        return;
    describe(&wish, name, "");
    if (shared_requests_add(shared_segment_requests(segment), &wish, now) == SHARED_REQUESTS_ADDED)
        wake_elected();
}

/* --- Waiting --- */

static apr_uint32_t query_mpm(int what)
{
    int value = 0;

    return ap_mpm_query(what, &value) == APR_SUCCESS && value > 0 ? (apr_uint32_t)value : 1;
}

/* How many may wait over all children: what AutocertWait says, else a quarter of all workers; and one
 * worker is left in any case, for the CA's validation. */
static apr_uint32_t most_waiting(const httpd_config_t *config, apr_uint32_t threads)
{
    apr_uint32_t workers = threads * query_mpm(AP_MPMQ_MAX_DAEMONS);
    apr_uint32_t most = config->wait_most > 0 ? (apr_uint32_t)config->wait_most : (workers + 3) / 4;

    return most < workers ? most : workers - 1;
}

/* The client ended its side; a peer that only closed its sending half has no use for a handshake either. */
static int is_gone(int fd)
{
    struct pollfd poller = { fd, POLLRDHUP, 0 };

    return poll(&poller, 1, STEP_MS) > 0 && (poller.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

/* One handshake that waits. */
typedef struct wait_t {
    const manager_policy_name_t *name;
    int fd;
    apr_uint32_t version;
    apr_time_t end;
    httpd_demand_look_fn *look;
    void *baton;
} wait_t;

static int wait_for_change(wait_t *wait)
{
    shared_versions_t *versions = shared_segment_versions(httpd_runtime()->segment);
    shared_requests_answer_t known = SHARED_REQUESTS_PENDING;
    apr_time_t now = 0;

    while (known == SHARED_REQUESTS_PENDING && now < wait->end && !is_gone(wait->fd)) {
        apr_uint32_t version;

        now = apr_time_now();
        /* The answer first: whoever gives it has raised the version before. */
        known = httpd_demand_known(wait->name, now);
        version = shared_versions_get(versions, wait->name->name);
        if (version == wait->version && known != SHARED_REQUESTS_NONE)
            continue;
        wait->version = version;
        if (wait->look(wait->baton))
            return 1;
    }
    return 0;
}

static void report_crowd(const conn_rec *c, const manager_policy_name_t *name, apr_time_t now)
{
    static base_log_limit_t limit;
    char others[BASE_LOG_OTHERS_SIZE];

    if (base_log_limit(&limit, apr_time_sec(now), 1, others))
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, c, "AC0342: autocert: %s: its certificate is being "
                      "obtained, but too many clients wait already%s; this one is sent away, the "
                      "certificate comes all the same", name->name, others);
}

int httpd_demand_wait(conn_rec *c, const server_rec *s, const manager_policy_name_t *name,
                      apr_uint32_t version, httpd_demand_look_fn *look, void *baton)
{
    wait_t waiter = { name, -1, version, 0, look, baton };
    const httpd_config_t *config = httpd_config_of(s);
    apr_interval_time_t wait = config->wait_set ? config->wait : HTTPD_CONFIG_WAIT_DEFAULT;
    static volatile apr_uint32_t waiting_here;
    apr_uint32_t threads = query_mpm(AP_MPMQ_MAX_THREADS);
    shared_waiters_place_t place;
    shared_waiters_t *waiters;
    apr_time_t now = apr_time_now();
    int served;

    if (wait <= 0 || apr_os_sock_get(&waiter.fd, ap_get_conn_socket(c)) != APR_SUCCESS)
        return 0;
    waiters = shared_segment_waiters(httpd_runtime()->segment);
    if (apr_atomic_inc32(&waiting_here) >= (threads > 1 ? threads / 2 : 1)
        || !shared_waiters_enter(waiters, &place, most_waiting(config, threads), wait, now)) {
        apr_atomic_dec32(&waiting_here);
        report_crowd(c, name, now);
        return 0;
    }
    waiter.end = now + wait;
    served = wait_for_change(&waiter);
    shared_waiters_leave(waiters, &place);
    apr_atomic_dec32(&waiting_here);
    return served;
}
