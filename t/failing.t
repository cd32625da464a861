# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What fails: one name among good ones waits longer each time, also over restarts, and is
# obtained once its cause is gone; a CA that is down or answers nonsense keeps nobody from
# starting; terms that nobody accepted are accepted by nobody.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use IO::Select ();
use IO::Socket::INET ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored ledger change_ledger);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::SickCA;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS => 60,
    NO_LISTENER    => '127.0.0.9',     # httpd listens on 127.0.0.1 only
    FIRST_WAIT     => 60,              # seconds after the first failure
    GROWTH         => 10,
    JITTER         => 1.2,
    INTERNAL_ERROR => 80,              # the alert
    ORDERS_SECONDS => 3,               # in which a wrong client would have placed an order
};

my $terms = 'data:text/plain,Do%20what%20thou%20wilt';

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        vars => $pebble->vars, loglevel => 'notice autocert:debug', %arg);
}

sub config
{
    my ($tos, @names) = @_;
    return "AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertCache dir:\@cache\@\n"
        . (defined $tos ? "AutocertAcceptTOS $tos\n" : '') . vhosts(@names);
}

subtest 'one bad name among good ones' => sub {
    my $bad = 'bad.example.test';
    my @good = map { "good$_.example.test" } 1 .. 5;
    my $pebble = Autocert::Pebble->new->start;
    $pebble->dns_set('add-a', host => $bad, addresses => [NO_LISTENER]);
    my $server = new_server($pebble, config => config('on', $bad, @good));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, @good), 'the good names are obtained';
    my $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120'))[0] });
    ok $failed, 'the bad one fails' or return;
    is $failed->{name}, $bad, 'and is named';
    like $failed->{text}, qr/^not obtained from localhost:\d+: .*127\.0\.0\.9.* next try \d\d:\d\d$/,
        'the log has the words of the CA, and when the next try is';
    is $failed->{level}, 'error', 'as an error';
    # A handshake for it brings no try.
    my $orders = $pebble->orders;
    my $seen = handshake(port => $server->https, sni => $bad);
    is $seen->{alert}, INTERNAL_ERROR, 'a client gets an alert' or diag $seen->{error};

    my @waits;
    for my $n (1 .. 3) {
        my $state = ledger($server, $bad);
        is $state->{failures}, $n, "failure $n is noted";
        my $wait = $state->{next} - $failed->{time};
        my $least = FIRST_WAIT * GROWTH**($n - 1);
        cmp_ok $wait, '>', $least - 2, "the wait after failure $n is at least $least s";
        cmp_ok $wait, '<', $least * JITTER + 5, 'and hardly more';
        push @waits, $wait;
        ok $server->stop, 'httpd stops';
        my $mark = $server->mark;
        ok $server->start, 'and starts';
        wait_until(30, sub { count_events($server, 'AC0001', $mark) });
        $seen = handshake(port => $server->https, sni => $bad);
        ok !$seen->{ok}, 'a client asks for the name';
        wait_until(ORDERS_SECONDS, sub { $pebble->orders > $orders }) if $n == 1;
        is $pebble->orders, $orders, "the wait survives the restart: no order before its end";
        is ledger($server, $bad)->{next}, $state->{next}, 'and is not longer for it';
        last if $n == 3;
        # As if the time had come.
        $server->stop;
        change_ledger($server, $bad, next => time - 1);
        $mark = $server->mark;
        ok $server->start, 'httpd starts when the time has come';
        $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120', $mark))[0] });
        ok $failed, 'it is tried, and fails again' or return;
        $orders = $pebble->orders;
    }
    ok $waits[0] < $waits[1] && $waits[1] < $waits[2], 'it waits longer each time';
    is scalar(grep { handshake(port => $server->https, sni => $_, ca => $pebble->root)->{ok} } @good),
        @good, 'the good names are served all the while';

    $server->stop;
    change_ledger($server, $bad, next => time - 1);
    $pebble->dns_set('clear-a', host => $bad);
    ok $server->start, 'the cause is gone';
    ok all_stored($server, OBTAIN_SECONDS, $bad), 'FA-01: the name is obtained';
    ok wait_until(10, sub {
        my $state = ledger($server, $bad);
        return $state->{failures} == 0 && $state->{next} == 0 && !$state->{problem};
    }), 'FA-01: and all is forgotten';
    ok $server->stop, 'httpd stops';
};

subtest 'a CA that is not well' => sub {
    my $name = 'patient.example.test';
    my $pebble = Autocert::Pebble->new;
    my $server = new_server($pebble, config => config('on', $name));

    # A listener that never answers shows whether anybody comes, and whether anybody waits.
    my $hole = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1',
        LocalPort => $pebble->port, Proto => 'tcp', ReuseAddr => 1);
    ok $hole, 'a CA that accepts connections and never answers' or return;
    my ($status, $output) = $server->configtest;
    is $status, 0, 'the configuration is good' or diag $output;
    ok !IO::Select->new($hole)->can_read(0), 'apachectl -t does not touch the network';
    ok $server->start, 'httpd starts and serves although the CA does not answer' or return;
    ok(IO::Select->new($hole)->can_read(30), 'children do ask it');
    ok $server->stop, 'and httpd ends in time while they wait for it';
    close $hole;

    my $mark = $server->mark;
    ok $server->start, 'httpd starts with the CA down' or return;
    my $said = wait_until(30, sub { (events($server, 'AC0130', $mark))[0] });
    like $said && $said->{text}, qr/^CA localhost:\d+: .*next try .* \(in \d+ s\)$/,
        'the log says so, and when it is tried again';
    is count_events($server, 'AC0120', $mark), 0, 'it is no failure of the name';
    my $seen = handshake(port => $server->https, sni => $name);
    is $seen->{alert}, INTERNAL_ERROR, 'FA-01: a client gets an alert' or diag $seen->{error};

    my $ca = Autocert::SickCA->new($pebble, '400 Bad Request');
    $mark = $server->mark;
    $said = wait_until(30, sub { (events($server, 'AC0130', $mark))[-1] });
    like $said && $said->{text}, qr/\b400\b/, 'FA-01: a directory that answers 400 is told';
    $ca->stop;
    $pebble->start;
    my $root = $pebble->root;
    ok wait_until(OBTAIN_SECONDS, sub {
        return handshake(port => $server->https, sni => $name, ca => $root)->{ok};
    }), 'FA-01: once it is well the name is obtained, without a restart';
    my @again = events($server, 'AC0132', $mark);
    is scalar(@again), 1, 'the log says that the CA answers again';
    is $pebble->orders, 1, 'by one order';
    ok $server->stop, 'httpd stops';
};

subtest 'terms of service' => sub {
    my $name = 'terms.example.test';
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, config => config(undef, $name));
    my $asked = qr/terms of service are not agreed to: read \Q$terms\E and write "AutocertAcceptTOS on"/;

    for my $case (['not set', undef], ['off', 'off'], ['another URL', 'https://localhost/other-terms']) {
        my ($what, $tos) = @$case;
        $server->write_config(config($tos, $name));
        my $mark = $server->mark;
        ok $server->start, "GC-03: $what: httpd starts" or return;
        ok $server->wait_for_log($asked, 30, $mark),
            "GC-03: $what: the log has the URL of the terms and what to write";
        my $seen = handshake(port => $server->https, sni => $name);
        is $seen->{alert}, INTERNAL_ERROR, "GC-03: $what: a client gets an alert"
            or diag $seen->{error};
        unlike $pebble->log, qr{POST /}, "GC-03: $what: no newAccount, and nothing else is sent";
        ok $server->stop, "GC-03: $what: httpd stops";
    }
    my ($status, $output) = $server->write_config(config(undef, $name))->configtest;
    is $status, 0, 'GC-03: -t takes it';
    like $output, qr/AC0020: .*AutocertAcceptTOS/s, 'GC-03: but warns';

    $server->write_config(config("https://localhost/other-terms $terms", $name));
    ok $server->start, 'GC-03: the exact URL among others';
    ok all_stored($server, OBTAIN_SECONDS, $name), 'GC-03: is agreed to, and the name obtained';
    like $server->log_since(0), qr/AC0207: .* agreed to \Q$terms\E/, 'GC-03: the log says to what';
    ok $server->stop, 'httpd stops';
};

done_testing;
