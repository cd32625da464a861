/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/waiters.h"

static apr_uint32_t second_of(apr_time_t now)
{
    return (apr_uint32_t)apr_time_sec(now);
}

/* Until a moment of the near future; one further away is from before the clock was set back. */
static int is_taken(apr_uint32_t until, apr_time_t now)
{
    apr_int32_t left = (apr_int32_t)(until - second_of(now));

    return until && left > 0 && left <= (apr_int32_t)apr_time_sec(SHARED_WAITERS_WAIT_MAX) + 2;
}

int shared_waiters_enter(shared_waiters_t *waiters, shared_waiters_place_t *place, apr_uint32_t most,
                         apr_interval_time_t wait, apr_time_t now)
{
    /* One second for the part of it that has passed, one for a thread that is late. */
    apr_uint32_t end = second_of(now) + (apr_uint32_t)apr_time_sec(wait) + 2;

    end = end ? end : 1;
    for (apr_uint32_t i = 0; i < most && i < SHARED_WAITERS_PLACES; i++) {
        apr_uint32_t until = apr_atomic_read32(&waiters->until[i]);

        if (!is_taken(until, now) && apr_atomic_cas32(&waiters->until[i], end, until) == until) {
            place->index = i;
            place->until = end;
            return 1;
        }
    }
    return 0;
}

void shared_waiters_leave(shared_waiters_t *waiters, const shared_waiters_place_t *place)
{
    /* Who was too late finds that somebody else has it. */
    apr_atomic_cas32(&waiters->until[place->index], 0, place->until);
}

apr_uint32_t shared_waiters_count(shared_waiters_t *waiters, apr_time_t now)
{
    apr_uint32_t taken = 0;

    for (apr_uint32_t i = 0; i < SHARED_WAITERS_PLACES; i++) {
        taken += is_taken(apr_atomic_read32(&waiters->until[i]), now) != 0;
    }
    return taken;
}
