# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# What goes wrong with orders: answers without Location, orders that are not ready, objects that are not
# there yet, orders that died, connections that end after a request was sent, httpd killed at any step.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use JSON::PP ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::FaultProxy;
use Autocert::Faults qw(faulty_server check_faults heal_faults vhosts_of);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit scratch);

use constant {
    OBTAIN_SECONDS => 60,
    STEP_SECONDS   => 30,
};

my $not_there = Autocert::FaultProxy::problem(404, 'malformed', detail => 'no such thing');
my $refused = Autocert::FaultProxy::problem(403, 'unauthorized');
my $not_ready = Autocert::FaultProxy::problem(403, 'orderNotReady');

sub set_error
{
    my ($object, $type) = @_;
    $object->{error} = { type => "urn:ietf:params:acme:error:$type", detail => "fault: $type", status => 403 };
    return;
}

# The challenge is over, but its authorization never is: what step-ca does.
sub leave_pending
{
    my ($authz) = @_;
    $authz->{status} = 'pending';
    for my $challenge (grep { $_->{type} eq 'tls-alpn-01' } @{ $authz->{challenges} }) {
        $challenge->{status} = 'invalid';
        set_error($challenge, 'connection');
    }
    return;
}

# The second order is the first one again, as a CA does that has one for each set of names.
sub same_order
{
    my ($answer, $request) = @_;
    my $file = scratch() . '/same-order';
    if (defined(my $first = slurp($file))) {
        my $before = JSON::PP::decode_json($first);
        @$answer{qw(headers body)} = @$before{qw(headers body)};
        @{ $answer->{headers} } = grep { $_->[0] !~ /^Replay-Nonce$/i } @{ $answer->{headers} };
        return;
    }
    spit($file, JSON::PP::encode_json({ map { $_ => $answer->{$_} } qw(headers body) }));
    return;
}

my %rsa_client = (tls => '1.2', ciphers => 'ECDHE-RSA-AES128-GCM-SHA256');

my %edits = (
    dead => sub { $_[0]{status} = 'invalid' },
    pending => \&leave_pending,
    caa => sub { $_[0]{status} = 'invalid'; set_error($_[0], 'caa') },
    mute => sub { $_[0]{status} = 'invalid'; delete $_[0]{error} },
    expired => sub { $_[0]{expires} = '2020-01-01T00:00:00Z' },
    same => \&same_order,
);

# Begun first and looked at last: one of them takes the client a while.
my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits)->start;
my @faults = (
    { is => 'F07', what => 'no Location but at newOrder', most => { finalize => 1 },
        rules => [{ class => ['order', 'finalize', 'authz'], set => { headers => { Location => undef } } }] },
    { is => 'F08', what => 'orderNotReady right after the authorization',
        rules => [{ class => 'finalize', to => 2, answer => $not_ready }], most => { finalize => 3 } },
    { is => 'F08', what => 'orderNotReady for ever', stuck => qr/orderNotReady/, most => { finalize => 8 },
        rules => [{ class => 'finalize', answer => $not_ready }] },
    { is => 'F09', what => '404 on a fresh order',
        rules => [{ class => 'order', to => 2, answer => $not_there }] },
    { is => 'F09', what => '404 without a body on a fresh authorization',
        rules => [{ class => 'authz', to => 2, answer => { status => 404 } }] },
    { is => 'F09', what => '404 on a fresh certificate',
        rules => [{ class => 'cert', to => 2, answer => $not_there }], most => { finalize => 1, cert => 3 } },
    { is => 'F29', what => 'a new order with a dead authorization', orders => 2,
        rules => [{ class => 'authz', to => 1, json => 'dead' }] },
    { is => 'F30', what => 'a failed challenge in an authorization that stays pending', orders => 2,
        rules => [{ class => 'authz', from => 2, to => 2, json => 'pending' }] },
    { is => 'F40', what => 'an order that is invalid after processing', fails => qr/caa: fault: caa/,
        rules => [{ class => 'order', from => 2, json => 'caa' }], most => { finalize => 1 } },
    { is => 'F40', what => 'an order that is invalid and does not say why', most => { finalize => 1 },
        fails => qr/without saying why/, rules => [{ class => 'order', from => 2, json => 'mute' }] },
    { is => 'F33', what => 'a reset after the challenge was sent', most => { challenge => 3, finalize => 1 },
        rules => [{ class => 'challenge', to => 1, reset => 'after' }] },
    { is => 'F33', what => 'a reset after finalize was sent', most => { finalize => 1 },
        rules => [{ class => 'finalize', to => 1, reset => 'after' }] },
    { is => 'F33', what => 'a reset before finalize came through', most => { finalize => 2 },
        rules => [{ class => 'finalize', to => 1, reset => 'before' }] },
    { is => 'F33', what => 'a reset of the download', most => { finalize => 1, cert => 2 },
        rules => [{ class => 'cert', to => 1, reset => 'after' }] },
    { is => 'F33', what => 'a request that is never answered', most => { finalize => 1 },
        rules => [{ class => 'order', to => 1, silent => 'after' }] },
);
my $server = faulty_server($pebble, $proxy, \@faults);
ok $server->start, 'httpd starts' or exit 1;

# httpd is killed while it waits for the answer to a request of each class, by which the CA has done or has
# not done what was asked. What is on disk then is gone on with, or thrown away.
subtest 'killed at any step' => sub {
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits)->start;
    my @steps = (
        # class, Pebble was asked or not, orders in the end besides one whose answer was lost
        ['newOrder', 'before', 1], ['newOrder', 'after', 0], ['authz', 'after', 1], ['challenge', 'before', 1],
        ['challenge', 'after', 1], ['order', 'after', 1], ['finalize', 'before', 1], ['finalize', 'after', 1],
        ['cert', 'after', 1],
    );
    # Orders on disk, and what has become of them when they are found there.
    my @stored = (
        ['gone', 2, { to => 1, answer => { status => 404 } }], ['dead', 2, { to => 1, json => 'dead' }],
        ['expired', 2, { to => 1, json => 'expired' }], ['strange', 2, { to => 1, answer => $refused }],
    );
    my $stuck = 'stuck.example.test';
    my %name = map { $_ => lc "$_->[0]-$_->[1].example.test" } @steps;
    my %stored = map { $_ => "$_->[0].example.test" } @stored;
    my @names = (values %name, values %stored);
    my $server = Autocert::Server->with_ca($pebble, vars => $proxy->vars,
        loglevel => 'notice autocert:debug', config => vhosts(@names, $stuck));

    my $account = $proxy->rule(class => 'newAccount', silent => 'after');
    ok $server->start, 'httpd starts' or return;
    ok $proxy->wait_for(STEP_SECONDS, 1, class => 'newAccount'), 'F43: an account is made';
    $server->kill_all;
    $proxy->clear($account);
    $proxy->rule(name => $name{$_}, class => $_->[0], silent => $_->[1]) for @steps;
    $proxy->rule(name => [values %stored, $stuck], class => 'challenge', silent => 'before');
    ok $server->start, 'F43: httpd was killed, and starts' or return;
    for my $step (@steps) {
        ok $proxy->wait_for(STEP_SECONDS, 1, name => $name{$step}, class => $step->[0], status => 'silent'),
            "F43: the order is at $step->[0], which the CA does not answer";
    }
    ok $proxy->wait_for(STEP_SECONDS, 1, name => $_, class => 'challenge'), "F15: there is an order of $_"
        for values %stored, $stuck;
    $server->kill_all;

    $proxy->clear;
    $proxy->rule(name => $stored{$_}, class => 'order', %{ $_->[2] }) for @stored;
    # As if it had been tried in vain for a while.
    $proxy->rule(name => $stuck, class => 'finalize', answer => $not_ready);
    my $record = $server->cache . "/.autocert/$stuck+order";
    my $order = JSON::PP::decode_json(slurp($record));
    spit($record, JSON::PP::encode_json({ %$order, interruptions => 3 }));
    my $mark = $server->mark;
    ok $server->start, 'F43: httpd was killed, and starts again' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names), 'F43: all names are obtained';
    is scalar($proxy->orders(name => $name{$_})), $_->[2], "F43: killed $_->[1] $_->[0]: $_->[2] orders" for @steps;
    # One that the CA knows after all, by its list of orders, may go on when a request for a new one gets lost.
    for my $case (@stored) {
        my $orders = () = $proxy->orders(name => $stored{$case});
        ok $orders == $case->[1] || ($case->[0] eq 'gone' && $orders == 1),
            "F15: $case->[0]: it is thrown away for a new one" or diag "$orders orders";
    }
    is scalar(() = $pebble->log =~ /There are now \d+ accounts in memory/g), 1, 'F43: there is one account';
    is_deeply [grep { $_ ne $stuck } map { $_->{name} } events($server, 'AC0120')], [], 'F43: nothing failed';
    my $failed = wait_until(STEP_SECONDS, sub { (events($server, 'AC0120', $mark))[0] });
    like $failed && $failed->{text}, qr/orderNotReady.*; next try \d\d:\d\d$/,
        'F08: an order that stays stuck is a failure in the end, with the next try in the log';
    is scalar($proxy->orders(name => $stuck)), 1, 'F08: there is one order';
    ok $server->stop, 'httpd stops';
};

# A client of the other kind comes while the first order of the name is under way, and the CA has but one
# order for a name.
subtest 'two kinds of key' => sub {
    my $name = 'two.example.test';
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits, rules => [
        { name => $name, class => 'newOrder', edit => 'same' },
        { name => $name, class => 'challenge', to => 1, delay => 1 },
    ])->start;
    my $server = Autocert::Server->with_ca($pebble, vars => $proxy->vars, wait => '10s', config => <<"CONF");
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $name
    AutocertKeyTypes p256 rsa2048
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok $proxy->wait_for(STEP_SECONDS, 1, class => 'newOrder', name => $name), 'the first order is placed' or return;
    my $seen = handshake(port => $server->https, sni => $name, timeout => 20, %rsa_client);
    ok !$seen->{ok}, 'F28: an RSA client is not served with the order of the other kind';
    is_deeply [grep { /^(?:newOrder|cert)$/ } map { $_->{class} } $proxy->requests(name => $name)],
        [qw(newOrder cert newOrder cert)], 'F28: the second order is placed when the first has ended';
    my ($failed) = events($server, 'AC0120');
    like $failed && $failed->{text}, qr/key.*; next try \d\d:\d\d$/, 'F28: the log says what is wrong with it';
    ok !-e $server->cache_file("$name+rsa"), 'F28: it is not stored';
    $seen = handshake(port => $server->https, sni => $name, ca => $pebble->root);
    ok $seen->{ok}, 'F28: and the first certificate serves' or diag $seen->{error};
    ok $server->stop, 'httpd stops';
};

subtest 'faults' => sub {
    check_faults($server, $proxy, @faults);
    heal_faults($server, $proxy, @faults);
    is scalar(grep { !handshake(port => $server->https, sni => $_->{name}, ca => $pebble->root)->{ok} } @faults),
        0, 'all names are served';
    ok $server->stop, 'httpd stops';
};

done_testing;
