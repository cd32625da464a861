# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The child that obtains certificates is killed (SIGKILL) in the middle of its orders:
# another one takes over at once, goes on with the orders that were placed, and every name
# is served in the end. No order is placed twice for it.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Time::HiRes ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored missing_names);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until nap);

use constant {
    NAMES          => 30,
    SOME_ORDERS    => 8,      # that must be under way when the child is killed
    QUIET_SECONDS  => 0.1,
    OBTAIN_SECONDS => 120,
    # mod_watchdog's own singleton takes ten seconds to change hands; a tenth of one is
    # what it takes here, and the rest is for a machine that has other things to do.
    TAKEOVER_SECONDS => 3,
};

my @names = map { sprintf 'host%02d.example.test', $_ } 1 .. NAMES;
my $pebble = Autocert::Pebble->new(
    env => { PEBBLE_VA_NOSLEEP => undef, PEBBLE_VA_SLEEPTIME => 3 })->start;
my $server = Autocert::Server->new(loglevel => 'notice autocert:debug',
    http => $pebble->http, https => $pebble->https, vars => $pebble->vars,
    config => <<'CONF' . vhosts(@names));
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF
$server->expect_crashes;
ok $server->start, 'httpd starts' or exit 1;

my $said = wait_until(30, sub { (events($server, 'AC0001'))[0] }, 'a child to be elected');
ok $said, 'one child is elected' or exit 1;
like $said->{text}, qr/^30 names in 30 vhosts: 0 valid, 30 to obtain;/, 'and says what is to do';
my $elected = $said->{pid};
ok scalar(grep { $_ == $elected } $server->children), 'it is a child of this httpd';

sub saved_orders
{
    return grep { -s $server->cache . "/.autocert/$_+order" } @names;
}

# A moment when the child waits for validations: every order that the CA has is saved. The
# child is stopped to look, so that nothing changes between the look and the end.
my @saved;
my $caught = wait_until(OBTAIN_SECONDS, sub {
    return 'late' if !missing_names($server, @names);
    return 0 if saved_orders() < SOME_ORDERS;
    my $before = $pebble->orders;
    nap(QUIET_SECONDS);
    kill 'STOP', $elected;
    nap(QUIET_SECONDS);
    @saved = saved_orders();
    my $stored = NAMES - missing_names($server, @names);
    # A certificate may be stored and its order not be forgotten yet.
    my $known = keys %{ { map { $_ => 1 } @saved, grep { -s $server->cache_file($_) } @names } };
    return 'caught' if $pebble->orders == $before && $known == $before && @saved >= SOME_ORDERS
        && $stored < NAMES - SOME_ORDERS;
    kill 'CONT', $elected;
    return 0;
}, 'a moment in the middle of orders');
is $caught, 'caught', 'orders are under way' or exit 1;
my @pending = grep { !-s $server->cache_file($_) } @saved;

my $mark = $server->mark;
my $killed = Time::HiRes::time();
kill 'KILL', $elected;
my $next = wait_until(30, sub { (events($server, 'AC0001', $mark))[0] }, 'the next one');
ok $next, 'another child takes over' or exit 1;
isnt $next->{pid}, $elected, 'which is not the dead one';
cmp_ok $next->{time} - $killed, '<', TAKEOVER_SECONDS, 'at once';

ok all_stored($server, OBTAIN_SECONDS, @names), 'all names have a certificate in the end';
my $root = $pebble->root;
my @bad = grep { !handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @names;
is "@bad", '', 'all are served and verify';

# An order whose validation hit the killed child on the wire is invalid at the CA, through no fault of
# the client: those, and only those, are placed again.
my @again = (events($server, 'AC0112', $mark), events($server, 'AC0113', $mark));
cmp_ok scalar(@again), '<=', 3, 'next to no order is lost to the kill'
    or diag map { "$_->{name}: $_->{text}\n" } @again;
is $pebble->orders, NAMES + @again, 'no order is placed twice';
my %resumed = map { $_->{name} => 1 } events($server, 'AC0111', $mark);
my %lost = map { $_->{name} => 1 } events($server, 'AC0112', $mark);
is_deeply [grep { !$resumed{$_} && !$lost{$_} } @pending], [],
    'what was placed before is gone on with';
# They are taken away after the certificate is in service.
wait_until(30, sub { !saved_orders() });
is_deeply [saved_orders()], [], 'and no saved order is left';

done_testing;
