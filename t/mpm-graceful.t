# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Graceful restarts while orders run and while visitors come: no child crashes, no order
# is lost, no order is placed twice, no handshake fails. And httpd ends at once although
# orders run.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Time::HiRes ();

use Autocert::Client qw(handshake load_start load_stop);
use Autocert::Events qw(count_events events vhosts all_stored missing_names);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp);

use constant RESTARTS => 20;
use constant {
    NAMES          => 30,
    CLIENTS        => 10,
    LOAD_RESTARTS  => 4,
    OBTAIN_SECONDS => 150,
    # A restart that meets the moment between the CA's having made an order and its answer being
    # stored leaves that order to expire: an order is lost then, not a certificate. Without
    # going on with saved orders each restart would cost all that are under way, a dozen.
    CUT_MAX        => 3,
    # httpd begins to send signals to children that linger after three seconds and says so; that is
    # what is tested. This bound is for httpd as a whole on a busy machine.
    STOP_SECONDS   => 8,
};

my @names = map { sprintf 'host%02d.example.test', $_ } 1 .. NAMES;
my $pebble = Autocert::Pebble->new(
    env => { PEBBLE_VA_NOSLEEP => undef, PEBBLE_VA_SLEEPTIME => 3 })->start;
my %common = (http => $pebble->http, https => $pebble->https, vars => $pebble->vars,
    loglevel => 'notice autocert:debug');
my $head = <<'CONF';
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF
my $server = Autocert::Server->new(%common, config => $head . vhosts(@names));
ok $server->start, 'httpd starts' or exit 1;
ok wait_until(30, sub { $pebble->orders >= 1 }), 'orders run';

sub errors
{
    my ($server) = @_;
    return grep { /AH00045:|AH00046:|AH00050:|AH00051:|AH00052:|exit signal/ }
        split /\n/, $server->log_since(0);
}

my ($restarted, $in_between) = (0, 0);
for (1 .. RESTARTS) {
    $in_between++ if missing_names($server, @names);
    $restarted++ if $server->graceful;
}
is $restarted, RESTARTS, RESTARTS . ' graceful restarts in a row';
cmp_ok $in_between, '>=', RESTARTS / 2, 'most of them while names were being obtained';
ok all_stored($server, OBTAIN_SECONDS, @names), 'all names have a certificate in the end';
is_deeply [errors($server)], [], 'no child crashed or had to be killed';
is count_events($server, 'AC0120'), 0, 'no name failed'
    or diag map { "$_->{name}: $_->{text}\n" } events($server, 'AC0120');
cmp_ok $pebble->orders, '>=', NAMES, 'an order for each name';
cmp_ok $pebble->orders, '<=', NAMES + CUT_MAX, 'and hardly more';
cmp_ok count_events($server, 'AC0111'), '>', 0, 'because they are gone on with';

# --- visitors ---

my $root = $pebble->root;
my @bad = grep { !handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @names;
is "@bad", '', 'all are served and verify';
my @loads = map {
    load_start(port => $server->https, ca => $root, path => '/', pause => 0.02,
        sni => [@names[$_ * 3 .. $_ * 3 + 2]])
} 0 .. CLIENTS - 1;
for my $n (1 .. LOAD_RESTARTS) {
    my $size = length $server->access_log;
    ok wait_until(30, sub { length $server->access_log > $size + 2000 }), 'visitors come';
    ok $server->graceful, "graceful restart $n among visitors";
}
my ($good, @failed) = (0);
for my $load (@loads) {
    my $result = load_stop($load);
    $good += $result->{ok};
    push @failed, "$result->{failed}: $result->{error}" if $result->{failed};
}
is "@failed", '', 'no visit failed';
cmp_ok $good, '>', CLIENTS * LOAD_RESTARTS, "of many ($good)";
is_deeply [errors($server)], [], 'no child crashed or had to be killed here either';
ok $server->stop, 'httpd stops';

# --- the end, in the middle of orders ---

for my $case (['graceful-stop', 'WINCH'], ['stop', 'TERM']) {
    my ($what, $signal) = @$case;
    my @some = map { sprintf 'end%02d.example.test', $_ } 1 .. 12;
    my $other = Autocert::Server->new(%common, name => $what, config => $head . vhosts(@some));
    ok $other->start, "$what: httpd starts" or next;
    my $mark = $other->mark;
    ok wait_until(30, sub { count_events($other, 'AC0224') >= 6 }), "$what: orders run";
    my $pid = $other->pid;
    my $begin = Time::HiRes::time();
    kill $signal, $pid;
    ok wait_until(STOP_SECONDS, sub { !$other->running }), "$what: httpd ends";
    diag sprintf '%s took %.2f s', $what, Time::HiRes::time() - $begin if $ENV{AUTOCERT_TIMES};
    cmp_ok scalar(missing_names($other, @some)), '>', 0, "$what: before all was done";
    is_deeply [errors($other)], [], "$what: no child was in the way";
    ok $other->stop, "$what: nothing is left";
}

done_testing;
