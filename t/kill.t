# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# F43: all of httpd is killed (SIGKILL) at each numbered step of an order, src/base/step.h. After the
# next start the same order goes on: the name is served, the CA's log shows one order and one account,
# no private key is left behind in a saved order, and no answer to a challenge.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake);
use Autocert::Events qw(events vhosts all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp);

use constant { OBTAIN_SECONDS => 60, AT_ONCE => 6 };

# As in src/base/step.h.
my @STEPS = qw(LOCKED KEY_MADE REGISTERED INTENDED PLACED SAVED PUBLISHED ASKING ASKED AUTHORIZED READY
    FINALIZED DOWNLOADED STORED NOTED FORGOTTEN);

my @run = map { { number => $_, step => $STEPS[$_ - 1], name => "step$_.example.test" } } 1 .. @STEPS;

sub set_up
{
    my ($run) = @_;

    $run->{pebble} = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    $run->{server} = Autocert::Server->with_ca($run->{pebble}, steps => 1, start_servers => 1,
        config => vhosts($run->{name}));
    $run->{marker} = $run->{server}->root . '/run/stopped';
    chmod 0777, $run->{server}->root . '/run';
    $run->{server}{env} = { AUTOCERT_STEP => "$run->{number}:$run->{marker}" };
    $run->{server}->expect_crashes;
    return;
}

# Files of the cache whose names match.
sub left
{
    my ($run, $pattern) = @_;
    my $cache = $run->{server}->cache;
    return grep { m{/[^/]*$pattern[^/]*$} } glob("$cache/*"), glob("$cache/.autocert/*");
}

while (my @group = splice @run, 0, AT_ONCE) {
    set_up($_) for @group;
    ok $_->{server}->start, "$_->{step}: httpd starts" for @group;
    for my $run (@group) {
        ok wait_until(OBTAIN_SECONDS, sub { -e $run->{marker} }, "step $run->{step}"),
            "$run->{step}: the order gets there";
        $run->{server}->kill_all;
        $run->{server}{env} = {};
    }
    ok $_->{server}->start, "$_->{step}: killed, httpd starts again" for @group;
    for my $run (@group) {
        my ($server, $pebble) = @$run{qw(server pebble)};
        ok all_stored($server, OBTAIN_SECONDS, $run->{name}), "$run->{step}: the certificate is there" or next;
        ok wait_until(10, sub {
            return handshake(port => $server->https, sni => $run->{name}, ca => $pebble->root)->{ok};
        }), "$run->{step}: and served";
        is $pebble->orders, 1, "$run->{step}: by one order";
        my $accounts = () = $pebble->log =~ /There are now \d+ accounts in memory/g;
        is $accounts, 1, "$run->{step}: of one account";
        ok wait_until(10, sub { !left($run, '\\+order') }), "$run->{step}: no saved order is left"
            or diag join ' ', left($run, '\\+order');
        ok wait_until(10, sub { !left($run, '\\+http-01|\\+token') }), "$run->{step}: no answer is left"
            or diag join ' ', left($run, '\\+http-01|\\+token');
        is $server->log_since =~ /AC0120/ ? 1 : 0, 0, "$run->{step}: nothing failed";
        ok $server->stop, "$run->{step}: httpd stops";
        $pebble->stop_all;
    }
}

done_testing;
