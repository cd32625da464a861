# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What must not be tried again and again: names that a CA refuses for good, names that nobody would give
# anybody, certificates that get lost each time.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored ledger);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS => 60,
    TOLD_SECONDS   => 30,
    CALM_SECONDS   => 2,        # in which a wrong client would have placed an order
    CLIENTS        => 20,
    ROUNDS         => 4,
    BUDGET         => 3,
    DAY            => 86_400,
};

my $blocked = 'blocked.test';
my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 },
    config => { domainBlocklist => [$blocked] })->start;
my $proxy = Autocert::FaultProxy->new(pebble => $pebble)->start;

sub new_server
{
    my (%arg) = @_;
    return Autocert::Server->with_ca($pebble, vars => $proxy->vars, loglevel => 'notice autocert:debug', %arg);
}

sub requests_for
{
    my ($name) = @_;
    return $proxy->count(class => 'newOrder', name => $name);
}

subtest 'a name that the CA refuses for good' => sub {
    my ($listed, $asked) = map { "$_.$blocked" } qw(listed asked);
    my $good = 'good.example.test';
    my $server = new_server(wait => 0, config => <<"CONF");
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $listed $good
    AutocertHostPolicy match [a-z.]{1,40}\\.blocked\\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $good), 'others are obtained';
    handshake(port => $server->https, sni => $asked);
    for my $name ($listed, $asked) {
        my $failed = wait_until(TOLD_SECONDS, sub {
            return (grep { $_->{name} eq $name } events($server, 'AC0120'))[0];
        });
        like $failed && $failed->{text}, qr/rejectedIdentifier: .*blocked.*; next try /, "F14: $name: the log says why";
        cmp_ok abs(ledger($server, $name)->{next} - time - DAY), '<=', DAY / 4, "F14: $name: it waits for a day";
    }
    # Clients and restarts change nothing.
    for my $round (1, 2) {
        handshake(port => $server->https, sni => $_) for (($listed, $asked) x CLIENTS);
        wait_until(CALM_SECONDS, sub { requests_for($listed) > 1 || requests_for($asked) > 1 });
        is requests_for($_), 1, "F14: $_: one request in all, round $round" for $listed, $asked;
        last if $round == 2;
        ok $server->restart, 'a restart';
    }
    # Names that scanners make of others cost not even that.
    for my $made_up ("www.www.asked.$blocked", "mail.www.asked.$blocked", "www.mail.asked.$blocked") {
        my $seen = handshake(port => $server->https, sni => $made_up);
        ok !$seen->{ok}, "F21: $made_up: no certificate";
        is requests_for($made_up), 0, "F21: $made_up: and no order";
    }
    ok $server->stop, 'httpd stops';
};

# A cache that loses what it is given: somebody restores an old copy each night.
subtest 'a certificate that gets lost each time' => sub {
    my $name = 'lost.example.test';
    my $server = new_server(ca_keys => 'orders=' . BUDGET . '/7d', config => vhosts($name));
    for my $round (1 .. ROUNDS) {
        my $mark = $server->mark;
        ok $server->start, "round $round: httpd starts" or return;
        if ($round <= BUDGET) {
            ok all_stored($server, OBTAIN_SECONDS, $name), "round $round: obtained" or return;
        }
        else {
            ok wait_until(TOLD_SECONDS, sub { count_events($server, 'AC0131', $mark) }),
                'F20: the log says that the budget is used up';
        }
        ok $server->stop, "round $round: httpd stops";
        unlink $server->cache_file($name), $server->cache . "/.autocert/$name+state";
    }
    is scalar($proxy->orders(name => $name)), BUDGET, 'F20: no more orders than the budget has';
};

done_testing;
