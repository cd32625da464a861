# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# Ways and clocks that are not as they should be: IPv6 that leads nowhere, at the CA and here; a front of the
# CA that ends HTTP/2 connections with GOAWAY; a CA that validates from several places, some of them late; clocks
# that differ.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use IO::Select ();
use IO::Socket::IP ();
use POSIX ();
use Socket qw(AF_INET AF_INET6 SOCK_STREAM);

use Autocert::Client qw(http_get);
use Autocert::Events qw(events count_events vhosts all_stored missing_names ledger change_ledger);
use Autocert::FaultProxy;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports);

use constant {
    OBTAIN_SECONDS => 60,
    TOLD_SECONDS   => 30,
    LOOKS          => 4,        # at an authorization that is not final
    FIRST_WAIT     => 60,
    FRONT_NAMES    => 8,
    FULL           => 4,        # more connections than a listener with a backlog of 1 takes
    MINUTE         => 60,
    HOUR           => 3600,
    DAY            => 86_400,
};

sub new_pebble
{
    return Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 0 }, @_)->start;
}

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->with_ca($pebble, loglevel => 'notice autocert:debug', %arg);
}

subtest 'validated from several places' => sub {
    my ($late, $refused) = ('late.example.test', 'refused.example.test');
    my $pebble = new_pebble();
    my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => {
        # The first place has seen the answer, others are still to come.
        pending => sub {
            my ($authz) = @_;
            $authz->{status} = 'pending';
            $_->{status} = 'processing', delete $_->{error} for @{ $authz->{challenges} };
        },
        secondary => sub {
            my ($authz) = @_;
            my ($seen) = grep { $_->{status} eq 'valid' } @{ $authz->{challenges} } or return;
            $authz->{status} = $seen->{status} = 'invalid';
            $seen->{error} = { type => 'urn:ietf:params:acme:error:unauthorized', status => 403,
                detail => 'During secondary validation: 127.0.0.1: no answer' };
        },
    })->start;
    my $rule = $proxy->rule(name => $late, class => 'authz', from => 2, json => 'pending');
    $proxy->rule(name => $refused, class => 'authz', from => 2, json => 'secondary');
    my $server = new_server($pebble, vars => $proxy->vars,
        config => "AutocertChallenges http-01\n" . vhosts($late, $refused));
    ok $server->start, 'httpd starts' or return;
    ok $proxy->wait_for(OBTAIN_SECONDS, LOOKS, class => 'authz', name => $late), 'an authorization stays pending';
    my $answers = sub { grep { !/^\./ } map { m{([^/]+)\+http-01$} ? $1 : () } glob $server->cache . '/*+http-01' };
    my @tokens = $answers->();
    ok @tokens > 0, 'F31: its answer stays' or return;
    for my $token (@tokens) {
        my $seen = http_get(port => $server->http, host => $late, path => "/.well-known/acme-challenge/$token");
        like $seen->{body}, qr/^\Q$token\E\.[\w-]+\z/, 'F31: and is given to whoever comes later';
    }
    my $failed = wait_until(TOLD_SECONDS, sub {
        return (grep { $_->{name} eq $refused } events($server, 'AC0120'))[0];
    });
    like $failed && $failed->{text}, qr/During secondary validation: .*; next try /,
        'F31: one that failed elsewhere is told';
    cmp_ok ledger($server, $refused)->{next} - $failed->{time}, '>', FIRST_WAIT - 2, 'F31: and waits';
    is scalar($proxy->orders(name => $refused)), 1, 'F31: it is one order';
    $proxy->clear($rule);
    ok all_stored($server, OBTAIN_SECONDS, $late), 'F31: the late one is obtained';
    ok wait_until(TOLD_SECONDS, sub { !$answers->() }), 'F31: and its answer is gone';
    ok $server->stop, 'httpd stops';
};

# A front of the CA: a server that speaks HTTP/2, ends idle connections soon, and is reloaded now and then.
sub new_front
{
    my ($pebble, $address, %arg) = @_;
    return Autocert::Server->new(module => 0, modules => [qw(proxy proxy_http)], loglevel => 'warn http2:debug',
        vars => { ca => $pebble->port, dir => $pebble->dir, address => $address }, config => <<'CONF', %arg);
KeepAliveTimeout 1
MaxKeepAliveRequests 3
SSLProxyEngine on
SSLProxyVerify none
SSLProxyCheckPeerName off
Listen @address@
<VirtualHost @address@>
    ServerName localhost
    Protocols h2
    SSLEngine on
    SSLCertificateFile @dir@/tls.pem
    SSLCertificateKeyFile @dir@/tls.key
    ProxyPreserveHost on
    ProxyPass / https://127.0.0.1:@ca@/
</VirtualHost>
CONF
}

# A socket to which no connection can be made: those that it has room for are there already.
sub black_hole
{
    my ($family, $host, $port) = @_;
    # Where no interface but the loopback has IPv6, it counts as missing without the flags.
    my %how = (Family => $family, Type => SOCK_STREAM, GetAddrInfoFlags => 0);
    my $listener = IO::Socket::IP->new(%how, LocalHost => $host, LocalPort => $port, Listen => 1,
        ReuseAddr => 1) or return;
    my @full = map { IO::Socket::IP->new(%how, PeerHost => $host, PeerPort => $port, Blocking => 0) } 1 .. FULL;
    # The last of them waits for ever, as all others will.
    return if IO::Select->new($full[-1])->can_write(1);
    return { listener => $listener, full => \@full };
}

# Which address of localhost comes first is the resolver's choice, so that each is a hole once.
subtest 'an address of the CA that leads nowhere' => sub {
    # Containers often have no IPv6 at all.
    if (!IO::Socket::IP->new(Family => AF_INET6, Type => SOCK_STREAM, GetAddrInfoFlags => 0, LocalHost => '::1',
        Listen => 1)) {
        plan skip_all => "no ::1 here: $@" if ($ENV{CI} // '') ne 'true';
        return fail 'CI=true, but there is no ::1';
    }
    my $name = 'reached.example.test';
    for my $way (['IPv6', AF_INET6, '::1', '127.0.0.1'], ['IPv4', AF_INET, '127.0.0.1', '[::1]']) {
        my ($what, $family, $nowhere, $there) = @$way;
        my $pebble = new_pebble();
        my $port = free_ports(1);
        my $hole = black_hole($family, $nowhere, $port);
        ok $hole, "nobody answers by $what" or return;
        my $front = new_front($pebble, "$there:$port", listen => 0);
        ok $front->start, 'but by the other' or return;
        my $server = new_server($pebble, config => vhosts($name),
            vars => { pebble => "https://localhost:$port/dir", cafile => $pebble->cafile });
        ok $server->start, 'httpd starts' or return;
        ok all_stored($server, OBTAIN_SECONDS, $name), "F32: the CA is reached where $what leads nowhere";
        is count_events($server, $_), 0, "F32: no $_" for qw(AC0120 AC0130);
        ok $_->stop, 'httpd stops' for $server, $front;
        $pebble->stop_all;
    }
};

subtest 'an address of a name that leads nowhere' => sub {
    my ($broken, $good) = ('broken.example.test', 'good.example.test');
    my $pebble = new_pebble();
    # Nobody listens on ::1 where the CA looks for the answer.
    $pebble->dns_set('add-aaaa', host => $broken, addresses => ['::1']);
    my $server = new_server($pebble, config => vhosts($broken, $good));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $good), 'others are obtained';
    my $failed = wait_until(TOLD_SECONDS, sub { (events($server, 'AC0120'))[0] });
    is $failed && $failed->{name}, $broken, 'F32: a name that the CA does not reach by IPv6 fails';
    like $failed && $failed->{text}, qr/\[::1\]:.*; next try /, 'F32: the log says by which address';
    is scalar($pebble->orders), 3, 'F32: after one order for each kind of challenge';
    $server->stop;
    $pebble->dns_set('clear-aaaa', host => $broken);
    change_ledger($server, $broken, next => time - 1);
    ok $server->start, 'the address is gone' or return;
    ok all_stored($server, OBTAIN_SECONDS, $broken), 'F32: it is obtained then';
    ok $server->stop, 'httpd stops';
};

subtest 'a front that closes connections' => sub {
    my @names = map { "front$_.example.test" } 1 .. FRONT_NAMES;
    my $pebble = new_pebble();
    my $port = free_ports(1);
    my $front = new_front($pebble, "127.0.0.1:$port");
    ok $front->start, 'the front starts' or return;
    my $server = new_server($pebble, config => vhosts(@names),
        vars => { pebble => "https://localhost:$port/dir", cafile => $pebble->cafile });
    ok $server->start, 'httpd starts' or return;
    for my $round (1 .. 3) {
        ok wait_until(OBTAIN_SECONDS, sub { missing_names($server, @names) <= FRONT_NAMES - 2 * $round }),
            "round $round: some names are obtained";
        ok $front->graceful, "round $round: the front is reloaded";
    }
    ok all_stored($server, OBTAIN_SECONDS, @names), 'F34: all names are obtained';
    is count_events($server, $_), 0, "F34: no $_" for qw(AC0120 AC0130);
    like $front->access_log, qr{"POST /order-plz HTTP/2\.0" 201}, 'F34: over HTTP/2, where names of headers are small';
    is $pebble->orders, @names, 'F34: one order for each name';
    my $ended = () = $front->log_since(0) =~ /sent FRAME\[GOAWAY/g;
    cmp_ok $ended, '>', 0, "F34: $ended connections were ended with GOAWAY";
    ok $_->stop, 'httpd stops' for $server, $front;
};

subtest 'clocks that differ' => sub {
    my %offset = ('ahead by an hour' => HOUR, 'ahead by a day' => DAY, 'behind by an hour' => -(HOUR),
        'behind by a day' => -(DAY), 'a minute off' => MINUTE);
    for my $what (sort keys %offset) {
        my $offset = $offset{$what};
        my @names = map { "clock$_.example.test" } 1 .. 3;
        my $pebble = new_pebble();
        my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => { clock => sub {
            my ($answer) = @_;
            my $date = POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + $offset));
            @{ $answer->{headers} } = ((grep { lc $_->[0] ne 'date' } @{ $answer->{headers} }), ['Date', $date]);
        } }, rules => [{ edit => 'clock' }])->start;
        my $server = new_server($pebble, vars => $proxy->vars, config => vhosts(@names));
        ok $server->start, "$what: httpd starts" or return;
        ok all_stored($server, OBTAIN_SECONDS, @names), "F35: the CA's clock is $what: names are obtained";
        my @said = events($server, 'AC0232');
        if (abs $offset < HOUR) {
            is scalar(@said), 0, "F35: $what: not worth a word";
        }
        else {
            my $side = $offset > 0 ? 'behind' : 'ahead of';
            like $said[0] && $said[0]{text}, qr/the clock of this machine is .* $side that of the CA/,
                "F35: $what: the log says so";
            is scalar(@said), 1, "F35: $what: once";
        }
        is count_events($server, 'AC0120'), 0, "F35: $what: nothing fails";
        ok $server->stop, "$what: httpd stops";
        $proxy->stop;
        $pebble->stop_all;
    }
};

done_testing;
