# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The order budget of a CA: never exceeded, also not by a restart; who waits is told until
# when; it fills with time; ServerNames come before aliases, and names that a client
# waits for before all.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored missing_names);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS => 60,
    IDLE_SECONDS   => 1,      # in which an order too many would have been placed
    PERIOD         => 3,
};

sub new_server
{
    my ($pebble, $orders, $config) = @_;
    return Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        vars => $pebble->vars, loglevel => 'notice autocert:debug', config => <<"CONF" . $config);
AutocertCA \@pebble\@ cafile=\@cafile\@ orders=$orders
AutocertAcceptTOS on
AutocertCache dir:\@cache\@
CONF
}

subtest 'a small budget' => sub {
    my @main = map { "main$_.example.test" } 1 .. 3;
    my @alias = ('alias1.example.test', 'alias2.example.test');
    my $pebble = Autocert::Pebble->new->start;
    # The aliases stand first.
    my $server = new_server($pebble, '3/1h', <<"CONF" . vhosts(@main[1, 2]));
<VirtualHost 127.0.0.1:\@https\@>
    ServerName $main[0]
    ServerAlias @alias
    AutocertDomain @alias $main[0]
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, @main), 'ServerNames are obtained before aliases';
    my $told = wait_until(30, sub { (events($server, 'AC0131'))[0] });
    like $told && $told->{text},
        qr/: the order budget of 3 per 3600 s is used up; names that are due wait, .* until \d\d:\d\d$/,
        'the log says what is used up and until when names wait';
    is $told && $told->{level}, 'notice', 'for everyone to see';
    wait_until(IDLE_SECONDS, sub { $pebble->orders > 3 });
    is $pebble->orders, 3, 'three orders were placed';
    is_deeply [missing_names($server, @main, @alias)], \@alias, 'the aliases wait';

    my $mark = $server->mark;
    ok $server->stop, 'httpd stops';
    ok $server->start, 'and starts';
    ok wait_until(30, sub { count_events($server, 'AC0131', $mark) }), 'it knows that it has to wait';
    ok !handshake(port => $server->https, sni => $alias[0])->{ok}, 'a client comes for one that waits';
    wait_until(IDLE_SECONDS, sub { $pebble->orders > 3 });
    is $pebble->orders, 3, 'the budget survives a full restart';
    is count_events($server, 'AC0120'), 0, 'and waiting is no failure';
    ok $server->stop, 'httpd stops';
};

subtest 'a budget fills with time' => sub {
    my @names = map { "slow$_.example.test" } 1 .. 4;
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, '2/' . PERIOD . 's', vhosts(@names));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names), 'all names are obtained';
    is $pebble->orders, @names, 'by one order each';
    my @at = map { $_->{time} } events($server, 'AC0221');
    is scalar(@at), @names, 'the log has the moment of each' or return;
    # Two at once, then one for each half of the period; a little less for the log's own delay.
    my $each = PERIOD / 2 - 0.3;
    cmp_ok $at[2] - $at[0], '>', $each, 'the third had to wait';
    cmp_ok $at[3] - $at[0], '>', 2 * $each, 'the fourth twice as long';
    ok $server->stop, 'httpd stops';
};

subtest 'clients first' => sub {
    my @names = map { "turn$_.example.test" } 1 .. 4;
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, '1/' . PERIOD . 's', <<"CONF");
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain @names
    AutocertWait 0
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok wait_until(30, sub { $pebble->orders >= 1 }), 'the first order is placed' or return;
    my $seen = handshake(port => $server->https, sni => $names[-1]);
    ok !$seen->{ok}, 'a client comes for the last name, which is not there yet';
    ok all_stored($server, OBTAIN_SECONDS, @names), 'all names are obtained in the end';
    my @order = map { $_->{name} } sort { $a->{time} <=> $b->{time} } events($server, 'AC0221');
    is_deeply \@order, [@names[0, 3, 1, 2]],
        'that name was the next, the others came as they are listed';
    ok $server->stop, 'httpd stops';
};

done_testing;
