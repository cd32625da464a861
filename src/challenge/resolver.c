/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/resolver.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>
#include <apr_tables.h>
#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>

#define TIMEOUT_MS 1500             /* of the first try at one server */
#define TRIES 2
#define MESSAGE_SIZE 1232           /* bytes of an answer over UDP (EDNS); longer ones come over TCP */
#define PORT 53
#define NAMESERVERS_MAX 13          /* names of a zone's servers that are looked up */
#define LABELS_MAX 127              /* of a name (RFC 1035) */
#define ADDRESS_SIZE (INET6_ADDRSTRLEN + sizeof("[]:65535"))    /* as c-ares reads it */
#define TEXT_SIZE 256               /* bytes of a name in messages, with the NUL */

/* c-ares 1.28 and later would rather give out records that it parsed itself; this runs with those
 * that cannot yet. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* What all parts of one look share. */
typedef struct search_t {
    const challenge_resolver_look_t *look;
    const char *recursive;          /* servers for c-ares; NULL: the system's */
    apr_time_t deadline;
    int stopped;
    apr_pool_t *pool;
} search_t;

/* One question to one set of servers, which are tried one after the other. */
typedef struct ask_t {
    const char *servers;            /* NULL: the system's */
    const char *name;
    int type;
    int flags;                      /* ARES_FLAG_* */
    ares_channel channel;
    int made;                       /* the channel is */
    int sockets;                    /* that are waited for */
    int done;
    unsigned char *bytes;           /* of the answer; NULL: there is none */
    int len;
    apr_pool_t *pool;
} ask_t;

/* What the answer of one server means. */
typedef enum {
    SAYS_NOTHING,                   /* no answer, or none that counts */
    SAYS_NO,
    SAYS_YES,
    SAYS_ELSEWHERE                  /* a CNAME */
} says_t;

/* --- Addresses of servers --------------------------------------------------------- */

/* @return zero when it is no number of a port */
static int is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits > 0 && digits <= 5 && text[digits] == '\0' && apr_atoi64(text) >= 1
           && apr_atoi64(text) <= 65535;
}

/* Bring an address into the form that c-ares reads without doubt: "192.0.2.53:53", "[2001:db8::1]:53".
 * @return NULL, or what is wrong with it */
static const char *read_server(char out[ADDRESS_SIZE], const char *text)
{
    static const char no_address[] = "is no IP address";
    const char *port = "53", *host = text, *end = text + strlen(text), *colon = strchr(text, ':');
    char bare[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    int is_ipv6 = 0;

    if (text[0] == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return no_address;
        port = end[1] == ':' ? end + 2 : port;
        is_ipv6 = 1;
    }
    else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
        end = colon;
        port = colon + 1;
    }
    else
        is_ipv6 = colon != NULL;
    if ((size_t)(end - host) >= sizeof(bare))
        return no_address;
    memcpy(bare, host, (size_t)(end - host));
    bare[end - host] = '\0';
    if (inet_pton(is_ipv6 ? AF_INET6 : AF_INET, bare, bytes) != 1)
        return no_address;
    if (!is_port(port))
        return "has a port that is no number from 1 to 65535";
    apr_snprintf(out, ADDRESS_SIZE, is_ipv6 ? "[%s]:%s" : "%s:%s", bare, port);
    return NULL;
}

const char *challenge_resolver_check(const char *server)
{
    char out[ADDRESS_SIZE];

    return read_server(out, server);
}

/* The servers of the configuration for c-ares; what is no address is left out, it was judged before. */
static const char *read_servers(const challenge_resolver_config_t *config, apr_pool_t *pool)
{
    const char *servers = NULL;
    char *rest, *word;

    if (config == NULL || config->servers == NULL)
        return NULL;
    rest = apr_pstrdup(pool, config->servers);
    while ((word = strsep(&rest, ", ")) != NULL) {
        char out[ADDRESS_SIZE];

        if (read_server(out, word) == NULL)
            servers = servers ? apr_pstrcat(pool, servers, ",", out, NULL) : apr_pstrdup(pool, out);
    }
    return servers;
}

/* --- Questions -------------------------------------------------------------------- */

apr_status_t challenge_resolver_init(void)
{
    static int done;

    if (!done) {
        if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
            return APR_EGENERAL;
        done = 1;
    }
    return APR_SUCCESS;
}

/* c-ares' callback: also NXDOMAIN and an answer without records carry their bytes. */
static void take_answer(void *baton, int status, int timeouts, unsigned char *bytes, int len)
{
    ask_t *ask = baton;

    (void)timeouts;
    ask->done = 1;
    if ((status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND) && bytes && len > 0) {
        ask->bytes = apr_pmemdup(ask->pool, bytes, (apr_size_t)len);
        ask->len = len;
    }
}

static void begin_ask(ask_t *ask)
{
    struct ares_options options = { 0 };

    options.timeout = TIMEOUT_MS;
    options.tries = TRIES;
    options.ednspsz = MESSAGE_SIZE;
    options.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS | ask->flags;
    if (ares_init_options(&ask->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ
                                                   | ARES_OPT_FLAGS) != ARES_SUCCESS) {
        ask->done = 1;
        return;
    }
    ask->made = 1;
    if (ask->servers && ares_set_servers_ports_csv(ask->channel, ask->servers) != ARES_SUCCESS)
        ask->done = 1;
    else
        ares_query(ask->channel, ask->name, ns_c_in, ask->type, take_answer, ask);
}

/* The sockets of a question. @return how many */
static int list_sockets(ask_t *ask, struct pollfd *fds)
{
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    /* Unsigned: the macros of c-ares shift a one into the sign. */
    unsigned int bits = (unsigned int)ares_getsock(ask->channel, sockets, ARES_GETSOCK_MAXNUM);
    int count = 0, i;

    for (i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
        short events = (short)((bits >> i & 1 ? POLLIN : 0)
                               | (bits >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0));

        if (events) {
            fds[count].fd = sockets[i];
            fds[count].events = events;
            fds[count++].revents = 0;
        }
    }
    return count;
}

/* What c-ares has to do for a question after poll(): its sockets first, then its time-outs. */
static void process_ask(ask_t *ask, const struct pollfd *fds, int count)
{
    int i;

    for (i = 0; i < count; i++) {
        if (fds[i].revents)
            ares_process_fd(ask->channel, fds[i].revents & ~POLLOUT ? fds[i].fd : ARES_SOCKET_BAD,
                            fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
    }
    ares_process_fd(ask->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

/* Milliseconds until something is to be done, at most until the deadline. */
static int find_wait(const ask_t *asks, int count, apr_time_t deadline)
{
    apr_interval_time_t wait = deadline - apr_time_now();
    int i;

    for (i = 0; i < count; i++) {
        struct timeval tv, *next = asks[i].done ? NULL : ares_timeout(asks[i].channel, NULL, &tv);

        if (next && apr_time_make(next->tv_sec, next->tv_usec) < wait)
            wait = apr_time_make(next->tv_sec, next->tv_usec);
    }
    return wait > 0 ? (int)apr_time_as_msec(wait) + 1 : 0;
}

/* Wait once for any of the questions. @return zero when all are done, the time is over, or it is to stop */
static int step_asks(search_t *search, ask_t *asks, int count, struct pollfd *fds)
{
    int used = 1, at = 1, open = 0, i, ready;

    fds[0].fd = base_stop_fd(search->look->stop);
    fds[0].events = POLLIN;
    fds[0].revents = 0;
    for (i = 0; i < count; i++) {
        asks[i].sockets = asks[i].done ? 0 : list_sockets(&asks[i], fds + used);
        used += asks[i].sockets;
        open += !asks[i].done;
    }
    if (!open || apr_time_now() >= search->deadline)
        return 0;
    ready = poll(fds, (nfds_t)used, find_wait(asks, count, search->deadline));
    if (base_stop_is_raised(search->look->stop)) {
        search->stopped = 1;
        return 0;
    }
    if (ready < 0 && errno != EINTR)
        return 0;
    for (i = 0; i < count; i++) {
        if (!asks[i].done)
            process_ask(&asks[i], fds + at, ready < 0 ? 0 : asks[i].sockets);
        at += asks[i].sockets;
    }
    return 1;
}

/* Ask them all at the same time. Those without an answer have no bytes afterwards. */
static void run_asks(search_t *search, ask_t *asks, int count)
{
    struct pollfd *fds;
    int i;

    if (search->stopped || count == 0)
        return;
    fds = apr_palloc(search->pool, sizeof(*fds) * (size_t)(count * ARES_GETSOCK_MAXNUM + 1));
    for (i = 0; i < count; i++) {
        asks[i].pool = search->pool;
        begin_ask(&asks[i]);
    }
    while (step_asks(search, asks, count, fds))
        ;
    for (i = 0; i < count; i++) {
        if (asks[i].made)
            ares_destroy(asks[i].channel);
    }
}

/* --- Answers ---------------------------------------------------------------------- */

/* @return zero when there is no answer, or it is no message */
static int open_answer(const ask_t *ask, ns_msg *msg)
{
    return ask->bytes && ns_initparse(ask->bytes, ask->len, msg) == 0;
}

/* The name that stands in the data of a record, or NULL. */
static const char *read_name(ns_msg *msg, const ns_rr *rr, apr_pool_t *pool)
{
    char name[NS_MAXDNAME];
    size_t len;

    if (ns_name_uncompress(ns_msg_base(*msg), ns_msg_end(*msg), ns_rr_rdata(*rr), name, sizeof(name)) < 0)
        return NULL;
    len = strlen(name);
    return len > 0 && strcmp(name, ".") != 0 ? apr_pstrmemdup(pool, name, len) : NULL;
}

/* The name without its first label; NULL when that is the last one. A dot behind a backslash is none. */
static const char *find_parent(const char *name)
{
    while (*name && *name != '.')
        name += name[0] == '\\' && name[1] ? 2 : 1;
    return name[0] == '.' && name[1] ? name + 1 : NULL;
}

/* Non-zero when the name is the zone's, or below it. */
static int is_within(const char *name, const char *zone)
{
    while (name && strcasecmp(name, zone) != 0)
        name = find_parent(name);
    return name != NULL;
}

/* The strings of a TXT record, joined. NULL when they are too long, damaged, or hold a zero byte, which is
 * nothing that anybody looks for. */
static const char *join_strings(const ns_rr *rr, apr_pool_t *pool)
{
    const unsigned char *at = ns_rr_rdata(*rr);
    const unsigned char *end = at + ns_rr_rdlen(*rr);
    size_t len = 0;
    char *value;

    if (ns_rr_rdlen(*rr) > CHALLENGE_RESOLVER_VALUE_MAX)
        return NULL;
    value = apr_palloc(pool, (apr_size_t)ns_rr_rdlen(*rr) + 1);
    while (at < end) {
        size_t n = *at++;

        if (n > (size_t)(end - at) || memchr(at, 0, n))
            return NULL;
        memcpy(value + len, at, n);
        len += n;
        at += n;
    }
    value[len] = '\0';
    return value;
}

/* What one answer says about TXT records of the name. The records of other names that stand beside them are
 * nobody's business: whoever follows a CNAME asks the servers of its target.
 * @param target set to the target of the name's CNAME when there is one */
static says_t judge_answer(const search_t *search, const ask_t *ask, const char **target)
{
    const challenge_resolver_look_t *look = search->look;
    says_t says = SAYS_NO;
    int values = 0, i;
    ns_msg msg;
    ns_rr rr;

    if (!open_answer(ask, &msg))
        return SAYS_NOTHING;
    for (i = 0; i < ns_msg_count(msg, ns_s_an); i++) {
        const char *text;

        if (ns_parserr(&msg, ns_s_an, i, &rr) != 0)
            return SAYS_NOTHING;
        if (ns_rr_class(rr) != ns_c_in || strcasecmp(ns_rr_name(rr), ask->name) != 0)
            continue;
        if (ns_rr_type(rr) == ns_t_txt && values++ < CHALLENGE_RESOLVER_VALUES_MAX
            && (text = join_strings(&rr, search->pool)) != NULL && look->match(look->baton, text))
            says = SAYS_YES;
        if (ns_rr_type(rr) == ns_t_cname && (text = read_name(&msg, &rr, search->pool)) != NULL)
            *target = text;
    }
    if (says == SAYS_NO && values == 0 && *target)
        return SAYS_ELSEWHERE;
    /* Whoever only points at other servers does not know. */
    if (says == SAYS_NO && (ask->flags & ARES_FLAG_NORECURSE) && !ns_msg_getflag(msg, ns_f_aa))
        return SAYS_NOTHING;
    return says;
}

/* --- The servers of a zone -------------------------------------------------------- */

static void ask_recursive(search_t *search, ask_t *ask, const char *name, int type)
{
    memset(ask, 0, sizeof(*ask));
    ask->servers = search->recursive;
    ask->name = name;
    ask->type = type;
    run_asks(search, ask, 1);
}

/* The owner of a SOA record for the name: in the answer, or beside one that says that there is none.
 * @return NULL when there is none, or it is the root's, which has no servers of anybody's */
static const char *find_soa(ns_msg *msg, const char *name, apr_pool_t *pool)
{
    static const ns_sect sections[] = { ns_s_an, ns_s_ns };
    size_t s;
    int i;

    for (s = 0; s < sizeof(sections) / sizeof(sections[0]); s++) {
        for (i = 0; i < ns_msg_count(*msg, sections[s]); i++) {
            ns_rr rr;

            if (ns_parserr(msg, sections[s], i, &rr) != 0)
                return NULL;
            if (ns_rr_type(rr) == ns_t_soa && is_within(name, ns_rr_name(rr)))
                return apr_pstrdup(pool, ns_rr_name(rr));
        }
    }
    return NULL;
}

/* The zone of a name, NULL when nobody knows. @param target set when the name turns out to be a CNAME: the
 * zone is of no interest then */
static const char *find_zone(search_t *search, const char *name, const char **target)
{
    const char *zone = NULL, *at;
    int labels = 0;
    ns_msg msg;
    ask_t ask;

    for (at = name; at && labels < LABELS_MAX; at = find_parent(at), labels++) {
        ask_recursive(search, &ask, at, ns_t_soa);
        if (search->stopped || apr_time_now() >= search->deadline)
            return NULL;
        if (!open_answer(&ask, &msg))
            continue;
        if (at == name) {
            judge_answer(search, &ask, target);
            if (*target)
                return NULL;
        }
        zone = find_soa(&msg, at, search->pool);
        if (zone)
            return zone;
    }
    return NULL;
}

/* The data of up to max records of a type, as names or as addresses for c-ares. */
static void read_records(const search_t *search, const ask_t *ask, apr_array_header_t *list, int max)
{
    const challenge_resolver_config_t *config = search->look->config;
    unsigned int port = config && config->port ? config->port : PORT;
    char text[INET6_ADDRSTRLEN];
    ns_msg msg;
    ns_rr rr;
    int i, k;

    if (!open_answer(ask, &msg))
        return;
    for (i = 0; i < ns_msg_count(msg, ns_s_an) && list->nelts < max; i++) {
        const char *item = NULL;

        if (ns_parserr(&msg, ns_s_an, i, &rr) != 0)
            return;
        if (ns_rr_type(rr) != (ns_type)ask->type)
            continue;
        if (ask->type == ns_t_ns)
            item = read_name(&msg, &rr, search->pool);
        else if (ask->type == ns_t_a && ns_rr_rdlen(rr) == 4
                 && inet_ntop(AF_INET, ns_rr_rdata(rr), text, sizeof(text)))
            item = apr_psprintf(search->pool, "%s:%u", text, port);
        else if (ask->type == ns_t_aaaa && ns_rr_rdlen(rr) == 16
                 && inet_ntop(AF_INET6, ns_rr_rdata(rr), text, sizeof(text)))
            item = apr_psprintf(search->pool, "[%s]:%u", text, port);
        for (k = 0; item && k < list->nelts; k++) {
            if (strcasecmp(APR_ARRAY_IDX(list, k, const char *), item) == 0)
                item = NULL;
        }
        if (item)
            APR_ARRAY_PUSH(list, const char *) = item;
    }
}

/* The addresses of a zone's servers for c-ares: const char *. */
static apr_array_header_t *find_servers(search_t *search, const char *zone)
{
    apr_array_header_t *names = apr_array_make(search->pool, 4, sizeof(const char *));
    apr_array_header_t *servers = apr_array_make(search->pool, 4, sizeof(const char *));
    ask_t asks[2 * NAMESERVERS_MAX];
    int i;

    ask_recursive(search, &asks[0], zone, ns_t_ns);
    read_records(search, &asks[0], names, NAMESERVERS_MAX);
    memset(asks, 0, sizeof(asks));
    for (i = 0; i < 2 * names->nelts; i++) {
        asks[i].servers = search->recursive;
        asks[i].name = APR_ARRAY_IDX(names, i % names->nelts, const char *);
        asks[i].type = i < names->nelts ? ns_t_a : ns_t_aaaa;
    }
    run_asks(search, asks, 2 * names->nelts);
    for (i = 0; i < 2 * names->nelts; i++)
        read_records(search, &asks[i], servers, CHALLENGE_RESOLVER_SERVERS_MAX);
    return servers;
}

/* --- One look --------------------------------------------------------------------- */

static const char *const words[] = {
    [SAYS_NOTHING] = "gave no answer",
    [SAYS_NO] = "has no such record",
    [SAYS_YES] = "has it",
    [SAYS_ELSEWHERE] = "has a CNAME"
};

/* Ask the servers for the TXT records of a name and say what came of it.
 * @param target set when one has a CNAME and nobody a record */
static challenge_resolver_seen_t ask_servers(search_t *search, const char *name,
                                             const apr_array_header_t *servers, const char **target,
                                             const char **detail)
{
    ask_t asks[CHALLENGE_RESOLVER_SERVERS_MAX];
    int counts[sizeof(words) / sizeof(words[0])] = { 0 };
    const char *text = "", *alias = NULL;
    int i;

    memset(asks, 0, sizeof(asks));
    for (i = 0; i < servers->nelts; i++) {
        asks[i].servers = APR_ARRAY_IDX(servers, i, const char *);
        asks[i].name = name;
        asks[i].type = ns_t_txt;
        asks[i].flags = ARES_FLAG_NORECURSE;
    }
    run_asks(search, asks, servers->nelts);
    if (search->stopped)
        return CHALLENGE_RESOLVER_STOPPED;
    for (i = 0; i < servers->nelts; i++) {
        says_t says = judge_answer(search, &asks[i], &alias);

        counts[says]++;
        text = apr_pstrcat(search->pool, text, i > 0 ? ", " : "", asks[i].servers, " ", words[says], NULL);
    }
    *detail = text;
    if (counts[SAYS_YES])
        return counts[SAYS_NO] || counts[SAYS_ELSEWHERE] ? CHALLENGE_RESOLVER_SOMEWHERE
                                                         : CHALLENGE_RESOLVER_EVERYWHERE;
    if (counts[SAYS_ELSEWHERE])
        *target = alias;
    return counts[SAYS_NO] || counts[SAYS_ELSEWHERE] ? CHALLENGE_RESOLVER_NOWHERE
                                                     : CHALLENGE_RESOLVER_UNKNOWN;
}

/* The same through the recursive servers. @param before what the authoritative servers did, NULL: nobody
 * knows who they are */
static challenge_resolver_seen_t ask_instead(search_t *search, const char *name, const char *before,
                                             const char **target, const char **detail)
{
    const char *who = search->recursive ? search->recursive : "the system's DNS server";
    says_t says;
    ask_t ask;

    ask_recursive(search, &ask, name, ns_t_txt);
    if (search->stopped)
        return CHALLENGE_RESOLVER_STOPPED;
    says = judge_answer(search, &ask, target);
    *detail = apr_pstrcat(search->pool, before ? before : "the servers of the zone are not known", "; ", who,
                          " ", words[says], NULL);
    if (says == SAYS_YES)
        return CHALLENGE_RESOLVER_EVERYWHERE;
    if (says == SAYS_NO)
        return before ? CHALLENGE_RESOLVER_UNKNOWN : CHALLENGE_RESOLVER_NOWHERE;
    return CHALLENGE_RESOLVER_UNKNOWN;
}

/* Look at one name. @param target set when the look goes on there */
static challenge_resolver_seen_t look_at(search_t *search, const char *name, const char **target,
                                         const char **detail)
{
    challenge_resolver_seen_t seen = CHALLENGE_RESOLVER_UNKNOWN;
    const char *zone = find_zone(search, name, target), *before = NULL;
    apr_array_header_t *servers;

    if (*target)
        return seen;
    servers = zone ? find_servers(search, zone) : NULL;
    if (servers && servers->nelts > 0) {
        seen = ask_servers(search, name, servers, target, &before);
        *detail = before ? before : *detail;
    }
    if (seen == CHALLENGE_RESOLVER_UNKNOWN)
        seen = ask_instead(search, name, before, target, detail);
    return search->stopped ? CHALLENGE_RESOLVER_STOPPED : seen;
}

challenge_resolver_seen_t challenge_resolver_look(const challenge_resolver_look_t *look, const char **detail,
                                                  apr_pool_t *pool)
{
    search_t search = { look, read_servers(look->config, pool), apr_time_now() + CHALLENGE_RESOLVER_LOOK_MAX,
                        base_stop_is_raised(look->stop), pool };
    challenge_resolver_seen_t seen = CHALLENGE_RESOLVER_STOPPED;
    const char *name = look->name, *target;
    char text[TEXT_SIZE];
    int hops = 0;

    do {
        target = NULL;
        *detail = "asked to stop";
        if (search.stopped)
            return CHALLENGE_RESOLVER_STOPPED;
        seen = look_at(&search, name, &target, detail);
        if (seen == CHALLENGE_RESOLVER_STOPPED || !target) {
            if (hops > 0) {
                base_error_copy_text(text, sizeof(text), name);
                *detail = apr_psprintf(pool, "at %s, where a CNAME leads: %s", text, *detail);
            }
            return seen;
        }
        name = target;
    } while (++hops <= CHALLENGE_RESOLVER_CNAMES_MAX);
    *detail = apr_psprintf(pool, "more than %d CNAMEs one after the other", CHALLENGE_RESOLVER_CNAMES_MAX);
    return CHALLENGE_RESOLVER_NOWHERE;
}
