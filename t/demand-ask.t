# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
# seconds: 300
#
# AutocertHostPolicy ask: an endpoint decides. It is asked only when something has to be ordered,
# it fails closed, its answers are remembered, and one that says yes to everything is found out.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake handshake_all make_ca issue_pair cache_value cert_info);
use Autocert::Endpoint;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit scratch);

use constant {
    INTERNAL     => 80,
    NO_NAME      => 112,
    LIVE_SECONDS => 30,
};

my $pebble = Autocert::Pebble->new;
$pebble->start;
my $root = $pebble->root;
my $ca = make_ca('a CA by hand');
my $hand = spit(scratch() . "/demand-ask.$$", $ca->{pem});

sub new_server
{
    my ($vhost, %arg) = @_;
    return Autocert::Server->with_ca($pebble, %arg, wait => '20s',
        config => "<VirtualHost 127.0.0.1:\@https\@>\nServerAlias *\n$vhost</VirtualHost>\n");
}

subtest 'who is asked what' => sub {
    my $endpoint = Autocert::Endpoint->new(yes => '^(new|lapsed)[0-9]*\.good\.test$');
    my $server = new_server('AutocertHostPolicy ask ' . $endpoint->url('/may?key=x') . "\n"
        . "AutocertDomain listed.good.test\n");
    $server->cache_put('here.good.test', cache_value(issue_pair($ca, ['here.good.test'])));
    $server->cache_put('lapsed.good.test', cache_value(issue_pair($ca, ['lapsed.good.test'],
        not_before => -90 * 86_400, not_after => -60)));
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, ca => $root);

    my $seen = https_get(%visit, sni => 'new.good.test');
    is $seen->{status}, 200, 'a yes: the first handshake gets its certificate' or diag $seen->{error};
    my ($asked) = grep { $_->{domain} eq 'new.good.test' } $endpoint->asked;
    is $asked->{path}, '/may', 'the path is the configured one';
    is $asked->{query}, 'key=x&domain=new.good.test&ip=127.0.0.1', 'name and address are added to the query';
    ok wait_until(LIVE_SECONDS, sub { grep { $_->{domain} =~ /^[a-z]{24}\.invalid$/ } $endpoint->asked },
        'the canary'), 'at start it is asked about a name that nobody can own';
    unlike $server->log_since(0), qr/AC0151/, 'it says no to that: no alarm';

    # A valid certificate that is there is served, whoever says what.
    $seen = handshake(port => $server->https, ca => $hand, sni => 'here.good.test');
    ok $seen->{ok}, 'a name that has a certificate is served' or diag $seen->{error};
    is scalar(grep { $_ eq 'here.good.test' } $endpoint->domains), 0, 'without a question';
    # An expired one has to be ordered: then it is asked.
    $seen = https_get(%visit, sni => 'lapsed.good.test');
    is $seen->{status}, 200, 'an expired certificate is obtained again' or diag $seen->{error};
    cmp_ok scalar(grep { $_ eq 'lapsed.good.test' } $endpoint->domains), '>=', 1, 'after a question';

    my $orders = $pebble->orders;
    $seen = handshake(%visit, sni => 'other.bad.test');
    ok !$seen->{ok}, 'a no: no handshake';
    is $pebble->orders, $orders, 'and no order';
    for my $n (1 .. 3) {
        $seen = handshake(%visit, sni => 'other.bad.test');
        is $seen->{alert}, NO_NAME, "a no is remembered ($n): unrecognized_name at once";
    }
    is scalar(grep { $_ eq 'other.bad.test' } $endpoint->domains), 1, 'and the endpoint is not asked again';
    is scalar(grep { $_ eq 'listed.good.test' } $endpoint->domains), 0, 'a listed name needs nobody\'s word';
    for my $bad ('www.www.good.test', 'api.dev.mail.good.test', '127.0.0.1', 'nodot', 'a_b.good.test') {
        $seen = handshake(%visit, sni => $bad);
        is $seen->{alert}, NO_NAME, "$bad: unrecognized_name" or diag $seen->{error} // 'served';
    }
    my @asked = $endpoint->domains;
    is scalar(grep { /www\.www|api\.dev|127|nodot|a_b/ } @asked), 0, 'those are not even asked about';
    ok $server->stop, 'httpd stops';
};

subtest 'max-age' => sub {
    my $endpoint = Autocert::Endpoint->new(yes => 'never', headers => { 'Cache-Control' => 'private, max-age=1' });
    my $server = new_server('AutocertHostPolicy ask ' . $endpoint->url . "\n");
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, ca => $root, sni => 'later.good.test');
    ok !handshake(%visit)->{ok}, 'a no';
    $endpoint->set(yes => '.', headers => { 'Cache-Control' => 'max-age=600' });
    my $seen = wait_until(LIVE_SECONDS, sub {
        my $now = handshake(%visit);
        return $now->{ok} ? $now : undef;
    }, 'the no to be forgotten');
    ok $seen, 'is forgotten when its max-age is over, and a yes is obeyed';
    $endpoint->set(yes => 'never');
    is handshake(%visit)->{ok}, 1, 'a certificate that is there is served whatever is said later';
    ok $server->stop, 'httpd stops';
};

subtest 'fails closed' => sub {
    my $dead = free_ports(1);
    my $endpoint = Autocert::Endpoint->new(yes => '.');
    for my $row (['nobody listens', "http://127.0.0.1:$dead/may", {}],
        ['too slow', $endpoint->url, { yes => '.', delay => 5 }, ' timeout=500ms'],
        ['garbage', $endpoint->url, { mode => 'garbage' }], ['hung up', $endpoint->url, { mode => 'close' }],
        ['500', $endpoint->url, { status => 500 }], ['a redirect', $endpoint->url, { status => 302,
            headers => { Location => $endpoint->url('/elsewhere') } }],
        ['a huge body', $endpoint->url, { yes => '.', headers => { 'Content-Length' => 99_999_999 } }]) {
        my ($what, $url, $setting, $more) = @$row;
        $endpoint->set(%$setting);
        my $orders = $pebble->orders;
        my $server = new_server("AutocertHostPolicy ask $url" . ($more // '') . "\n");
        ok $server->start, "$what: httpd starts" or next;
        my $seen = handshake(port => $server->https, ca => $root, sni => 'closed.good.test');
        ok !$seen->{ok}, "$what: no handshake";
        is $pebble->orders, $orders, "$what: no order";
        ok $server->stop, "$what: httpd stops";
    }
    is scalar(grep { $_->{path} eq '/elsewhere' } $endpoint->asked), 0, 'no redirect is followed';
};

subtest 'one that says yes to everything' => sub {
    my $endpoint = Autocert::Endpoint->new(yes => '.');
    my $server = new_server('AutocertHostPolicy ask ' . $endpoint->url . "\n");
    ok $server->start, 'httpd starts' or return;
    ok $server->wait_for_log(qr/AC0151: .*says yes to a name that nobody can own/, LIVE_SECONDS), 'is found out';
    ok $server->stop, 'httpd stops';
};

subtest 'a unix socket, and this very httpd' => sub {
    my $endpoint = Autocert::Endpoint->new(socket => 1, yes => '^sock\.good\.test$');
    my $server = new_server('AutocertHostPolicy ask ' . $endpoint->url . "\n");
    ok $server->start, 'httpd starts' or return;
    my $seen = https_get(port => $server->https, ca => $root, sni => 'sock.good.test');
    is $seen->{status}, 200, 'asked over a unix socket' or diag $seen->{error};
    is_deeply [$endpoint->domains], ['sock.good.test'], 'once';
    ok $server->stop, 'httpd stops';

    $server = new_server("AutocertHostPolicy ask http://127.0.0.1:" . $pebble->http . "/may\n"
        . "RewriteEngine on\n", modules => []);
    my $config = $server->{config} . <<'CONF';
<VirtualHost 127.0.0.1:@http@>
    RewriteEngine on
    RewriteCond "%{QUERY_STRING}" "(^|&)domain=self\.good\.test(&|$)"
    RewriteRule "^/may$" "-" [R=204,L]
    RewriteRule "^/may$" "-" [R=404,L]
</VirtualHost>
CONF
    $server->write_config($config);
    ok $server->start, 'httpd starts' or return;
    $seen = https_get(port => $server->https, ca => $root, sni => 'self.good.test');
    is $seen->{status}, 200, 'this very httpd answers' or diag $seen->{error};
    ok !handshake(port => $server->https, ca => $root, sni => 'them.good.test')->{ok}, 'also with a no';
};

done_testing;
