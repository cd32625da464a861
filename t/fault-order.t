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

my %edits = (
    dead => sub { $_[0]{status} = 'invalid' },
    pending => \&leave_pending,
    caa => sub { $_[0]{status} = 'invalid'; set_error($_[0], 'caa') },
    mute => sub { $_[0]{status} = 'invalid'; delete $_[0]{error} },
    expired => sub { $_[0]{expires} = '2020-01-01T00:00:00Z' },
    same => \&same_order,
);

subtest 'faults' => sub {
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 })->start;
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => \%edits)->start;
    my @faults = (
        { is => 'F07', what => 'no Location but at newOrder', most => { finalize => 1 },
            rules => [{ class => ['order', 'finalize', 'authz'], set => { headers => { Location => undef } } }] },
        { is => 'F08', what => 'orderNotReady right after the authorization',
            rules => [{ class => 'finalize', to => 2, answer => $not_ready }], most => { finalize => 3 } },
        { is => 'F08', what => 'orderNotReady for ever', fails => qr/orderNotReady/, most => { finalize => 4 },
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
        { is => 'F28', what => 'one order for two kinds of key', key => '+rsa', fails => qr/key/, orders => 2,
            vhost => '    AutocertKeyTypes p256 rsa2048', rules => [{ class => 'newOrder', edit => 'same' }] },
    );
    my $server = faulty_server($pebble, $proxy, \@faults);
    ok $server->start, 'httpd starts' or return;
    check_faults($server, $proxy, @faults);
    my ($two) = map { $_->{name} } grep { $_->{is} eq 'F28' } @faults;
    my @of_two = $proxy->requests(name => $two);
    is_deeply [grep { /^(?:newOrder|cert)$/ } map { $_->{class} } @of_two], [qw(newOrder cert newOrder cert)],
        'F28: both kinds of key of a name are obtained one after the other';
    heal_faults($server, $proxy, @faults);
    is scalar(grep { !handshake(port => $server->https, sni => $_->{name}, ca => $pebble->root)->{ok} } @faults),
        0, 'all names are served';
    ok $server->stop, 'httpd stops';
};

done_testing;
