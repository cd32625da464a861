# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# F04: a CA that says "not within the hour" to a new order gets no other one within it, whoever asks, also after
# restarts; what Let's Encrypt says of one name concerns that name. And a first start with thousands of names
# at a CA that counts orders: it never has to refuse one, although httpd is restarted gracefully all the time,
# and the names that visitors come for are first.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Time::HiRes ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored ledger);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS  => 60,
    WATCHED         => 60,      # seconds in which a wrong client would have ordered again
    HOUR            => 3600,
    NAMES           => 2000,
    CA_ORDERS       => 30,      # per CA_PERIOD: above, the CA answers 429
    OUR_ORDERS      => 28,
    CA_PERIOD       => 20,
    RESTART_EVERY   => 10,
    RESTARTS        => 5,
    VISITED         => 10,      # names, of those that stand last
};

# Begun first and looked at in the end: each is watched for a minute.
my ($limited, $proxy, $before, @limited_names);
subtest 'not within the hour' => sub {
    @limited_names = map { "limited$_.example.test" } 1 .. 3;
    my $pebble = Autocert::Pebble->new->start;
    $proxy = Autocert::FaultProxy->new(pebble => $pebble)->start;
    $limited = Autocert::Server->with_ca($pebble, vars => $proxy->vars, wait => 0,
        config => vhosts($limited_names[0]));
    $proxy->rule(class => 'newOrder',
        answer => Autocert::FaultProxy::problem(429, 'rateLimited', headers => { 'Retry-After' => HOUR },
            detail => 'too many new orders from this account'));
    ok $limited->start, 'httpd starts' or return;
    my $told = wait_until(OBTAIN_SECONDS, sub { (events($limited, 'AC0130'))[0] });
    like $told && $told->{text}, qr/rateLimited: .*next try .* \(in (?:3599|3600|359\d) s\)$/,
        'the log says what the CA said, and that it is left alone for the hour';
    is $proxy->count(class => 'newOrder'), 1, 'after one order';
    is count_events($limited, 'AC0120'), 0, 'it is no failure of the name';
    $before = Time::HiRes::time();
    ok $limited->stop, 'httpd stops';
    $limited->write_config(join '', $limited->{config} =~ /\A(.*?)(?=<Virt)/s, vhosts(@limited_names));
    ok $limited->start, 'and starts, with more names';
    ok wait_until(30, sub { count_events($limited, 'AC0001') > 1 }), 'which it knows of';
    ok !handshake(port => $limited->https, sni => $limited_names[1])->{ok},
        'a client comes for one that is new';
};

subtest 'what concerns one name' => sub {
    my @names = map { "single$_.example.test" } 1 .. 3;
    my $pebble = Autocert::Pebble->new->start;
    my $one = Autocert::FaultProxy->new(pebble => $pebble)->start;
    my $server = Autocert::Server->with_ca($pebble, vars => $one->vars, config => vhosts(@names));
    $one->rule(class => 'newOrder', name => $names[0],
        answer => Autocert::FaultProxy::problem(429, 'rateLimited',
            detail => "too many certificates (5) already issued for this exact set of identifiers in the "
                . "last 168h0m0s, retry after " . stamp(time + 7200) . ": see the docs"));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names[1, 2]), 'other names are obtained';
    my $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120'))[0] });
    is $failed && $failed->{name}, $names[0], 'the one waits';
    my $next = ledger($server, $names[0])->{next} - time;
    cmp_ok $next, '>', 7100, "until the moment in the CA's words";
    cmp_ok $next, '<', 7200 * 1.3, 'and not much longer';
    is count_events($server, 'AC0130'), 0, 'the CA is not avoided';
    is $one->count(class => 'newOrder', name => $names[0], status => 429), 1, 'it was asked once';
    ok $server->stop, 'httpd stops';
};

sub stamp
{
    my ($s, $m, $h, $day, $month, $year) = gmtime $_[0];
    return sprintf '%04d-%02d-%02d %02d:%02d:%02d UTC', $year + 1900, $month + 1, $day, $h, $m, $s;
}

subtest 'a first start with thousands of names' => sub {
    my @names = map { sprintf 'many%04d.example.test', $_ } 1 .. NAMES;
    my @visited = @names[-VISITED() .. -1];
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my $counting = Autocert::FaultProxy->new(pebble => $pebble,
        rate => { capacity => CA_ORDERS, period => CA_PERIOD })->start;
    my $server = Autocert::Server->with_ca($pebble, vars => $counting->vars, wait => 0,
        ca_keys => 'orders=' . OUR_ORDERS . '/' . CA_PERIOD . 's', loglevel => 'notice',
        config => join '', map { "<VirtualHost 127.0.0.1:\@https\@>\n    AutocertDomain "
            . join(' ', @names[$_ * 50 .. $_ * 50 + 49]) . "\n</VirtualHost>\n" } 0 .. NAMES / 50 - 1);
    ok $server->start, 'httpd starts' or return;
    my $begun = Time::HiRes::time();
    ok wait_until(OBTAIN_SECONDS, sub { count_events($server, 'AC0131') }), 'the budget is used up at once';
    # Clients come for names whose turn would be the last.
    handshake(port => $server->https, sni => $_) for @visited;
    for my $n (1 .. RESTARTS) {
        wait_until(RESTART_EVERY + 5, sub { Time::HiRes::time() >= $begun + $n * RESTART_EVERY });
        ok $server->graceful, "graceful restart $n" or return;
    }
    my $took = Time::HiRes::time() - $begun;
    is $counting->count(class => 'newOrder', status => 429), 0, 'the CA never had to refuse an order';
    my $orders = $counting->count(class => 'newOrder', status => 201);
    my $budget = OUR_ORDERS * (1 + $took / CA_PERIOD);
    cmp_ok $orders, '<=', $budget, "$orders orders in $took s: the budget survives restarts";
    cmp_ok $orders, '>=', OUR_ORDERS * $took / CA_PERIOD * 0.7, 'and it is used';
    my @placed = map { $_->{name} } $counting->requests(class => 'newOrder', status => 201);
    my %turn;
    $turn{ $placed[$_] } //= $_ for 0 .. $#placed;
    my @missed = grep { !defined $turn{$_} } @visited;
    is "@missed", '', 'all names with visitors had their turn';
    my ($last) = sort { $b <=> $a } map { $turn{$_} // 0 } @visited;
    # Those that were placed before the visitors came, and what workers had in hand.
    cmp_ok $last, '<', OUR_ORDERS + VISITED + 16, "before the others ($last)";
    my %times;
    $times{$_}++ for @placed;
    is scalar(grep { $_ > 1 } values %times), 0, 'no order is placed twice';
    ok $server->stop, 'httpd stops';
};

subtest 'a minute later' => sub {
    wait_until(WATCHED + 5, sub { Time::HiRes::time() >= $before + WATCHED });
    is $proxy->count(class => 'newOrder'), 1, 'F04: not one more order was placed, for no name';
    ok $limited->graceful, 'a graceful restart' or return;
    ok !handshake(port => $limited->https, sni => $limited_names[2])->{ok}, 'another client';
    ok wait_until(30, sub { count_events($limited, 'AC0001') > 2 }), 'all names were looked at';
    wait_until(2, sub { $proxy->count(class => 'newOrder') > 1 });
    is $proxy->count(class => 'newOrder'), 1, 'changes nothing';
    ok $limited->stop, 'httpd stops';
};

done_testing;
