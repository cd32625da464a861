# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# CAs of all kinds: nonces refused half of the time, long chains, alternate ones, Retry-After in both
# forms, no Location where clients got used to one, authorizations that are valid already, a CA
# that forgot everything. And what is told to a CA: kinds of keys, contact, own account
# keys, the User-Agent, a proxy.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use JSON::PP ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::Pebble;
use Autocert::Relay;
use Autocert::Server;
use Autocert::SickCA;
use Autocert::Util qw(wait_until slurp spit run_program);

use constant {
    OBTAIN_SECONDS => 90,
    CHAIN          => 3,
    CLOSED_PORT    => 1,      # nobody listens there
};

sub head
{
    my ($keys) = @_;
    return "AutocertCA \@pebble\@ cafile=\@cafile\@ " . ($keys // '') . "\n"
        . "AutocertAcceptTOS on\nAutocertCache dir:\@cache\@\n";
}

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        vars => $pebble->vars, loglevel => 'notice autocert:debug', %arg);
}

sub accounts
{
    my ($pebble, $mark) = @_;
    my $count = () = $pebble->log($mark) =~ /There are now \d+ accounts in memory/g;
    return $count;
}

# The record of the account: one CA, one file.
sub account_record
{
    my ($server) = @_;
    my ($file) = glob $server->cache . '/.autocert/account+*';
    return JSON::PP::decode_json(defined $file ? slurp($file) : '{}');
}

subtest 'keys, chains, nonces, contact' => sub {
    my ($plain, $rsa, $p384) = map { "$_.example.test" } qw(plain rsa curve);
    my $pebble = Autocert::Pebble->new(env => { PEBBLE_WFE_NONCEREJECT => 50,
        PEBBLE_CHAIN_LENGTH => CHAIN, PEBBLE_ALTERNATE_ROOTS => 2 })->start;
    # The environment of httpd is nobody's business.
    my %nowhere = map { $_ => 'http://127.0.0.1:' . CLOSED_PORT }
        qw(http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY);
    my $kinds = <<"CONF";
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $rsa
    AutocertKeyTypes rsa2048
</VirtualHost>
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $p384
    AutocertKeyTypes p384
</VirtualHost>
CONF
    my $server = new_server($pebble, env => \%nowhere,
        config => head() . "AutocertEmail webmaster\@example.test\n" . vhosts($plain) . $kinds);
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $plain, "$rsa+rsa", $p384),
        'certificates are obtained with half of the nonces refused, and proxies of the environment ignored'
        or return;
    is $pebble->orders, 3, 'one order for each name';
    my $root = $pebble->root;
    my %visit = (port => $server->https, ca => $root);

    my $seen = handshake(%visit, sni => $plain);
    ok $seen->{ok}, 'the default key verifies to the first root, alternate ones are not chosen'
        or diag $seen->{error};
    is "$seen->{key_type} $seen->{key_bits}", 'EC 256', 'it is P-256';
    # The chain does not include the root.
    is $seen->{chain_length}, 1 + CHAIN, 'all of a long chain is served';
    my @chain = map { Autocert::Client::cert_info($_) } @{ $seen->{chain} };
    is_deeply [map { $_->{issuer_cn} } @chain[0 .. $#chain - 1]],
        [map { $_->{subject_cn} } @chain[1 .. $#chain]], 'each certificate by the next';
    $seen = handshake(%visit, sni => $rsa, tls => '1.2');
    is "$seen->{key_type} $seen->{key_bits}", 'RSA 2048', 'CA-01: AutocertKeyTypes rsa2048: an RSA leaf';
    ok !-e $server->cache_file($rsa), 'CA-01: which is in the file NAME+rsa only';
    like slurp($server->cache_file("$rsa+rsa")), qr/\A-----BEGIN RSA PRIVATE KEY-----\n/,
        'CA-01: with its traditional key';
    $seen = handshake(%visit, sni => $p384);
    is "$seen->{key_type} $seen->{key_bits}", 'EC 384', 'AutocertKeyTypes p384: a P-384 leaf';
    like slurp($server->cache_file($p384)), qr/\A-----BEGIN EC PRIVATE KEY-----\n/,
        'which is in the file NAME';

    is account_record($server)->{email}, 'webmaster@example.test', 'AutocertEmail is the contact';
    my $record = account_record($server);
    $server->write_config(head('email=ca-matters@example.test')
        . "AutocertEmail webmaster\@example.test\n" . vhosts($plain, 'later.example.test') . $kinds);
    my $mark = $server->mark;
    ok $server->graceful, 'another contact, for this CA';
    ok $server->wait_for_log(qr/AC0206: .*contact is ca-matters\@example\.test now/, 30, $mark),
        'AutocertCA email= takes its place, and the CA is told';
    ok wait_until(10, sub { (account_record($server)->{email} // '') eq 'ca-matters@example.test' }),
        'which is noted';
    is account_record($server)->{url}, $record->{url}, 'of the same account';
    is accounts($pebble), 1, 'the only one';
    ok all_stored($server, OBTAIN_SECONDS, 'later.example.test'), 'a new name is obtained with it';
    ok $server->stop, 'httpd stops';
};

subtest 'a CA that forgot everything' => sub {
    my ($first, $second) = ('first.example.test', 'second.example.test');
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, config => head() . vhosts($first));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $first), 'a name is obtained' or return;
    my $key = slurp($server->cache_file('acme_account+key'));
    $pebble->stop;
    my $forgotten = $pebble->mark;
    $pebble->start_ca;
    $server->write_config(head() . vhosts($first, $second));
    my $mark = $server->mark;
    ok $server->graceful, 'one more name at a CA that knows no account';
    ok all_stored($server, OBTAIN_SECONDS, $second), 'it is obtained';
    is accounts($pebble, $forgotten), 1, 'with a new account';
    is slurp($server->cache_file('acme_account+key')), $key, 'of the same key';
    is count_events($server, 'AC0120', $mark), 0, 'and it was no failure';
    is $pebble->orders($forgotten), 1, 'by one order; the other certificate is still good';
    ok $server->stop, 'httpd stops';
};

subtest 'own account keys' => sub {
    my $pebble = Autocert::Pebble->new->start;
    my $dir = Autocert::Server::work_dir();
    my %make = (
        ec => ['openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout'],
        rsa => ['openssl', 'genrsa', '2048'],
    );
    my %file;
    for my $kind (sort keys %make) {
        my ($status, $text) = run_program($make{$kind});
        my ($pem) = $text =~ /(-----BEGIN [A-Z ]*PRIVATE KEY-----.*-----END [A-Z ]*PRIVATE KEY-----\n)/s;
        ok $pem, "an $kind key" or return diag $text;
        $file{$kind} = spit("$dir/account-$kind.key", $pem, 0600);
    }
    # The second server shows that the key of the file is what is used: it has a cache of its own.
    my $n = 0;
    for my $case (['ec', 1, 'EC key'], ['ec', 1, 'the same EC key'], ['rsa', 2, 'RSA key']) {
        my ($kind, $accounts, $what) = @$case;
        my $name = 'own' . ++$n . '.example.test';
        my $server = new_server($pebble, config => head("account=$file{$kind}") . vhosts($name));
        ok $server->start, "account=FILE: $what: httpd starts" or return;
        is((stat $file{$kind})[2] & 077, 0, "$what: others cannot read it");
        ok all_stored($server, OBTAIN_SECONDS, $name), "$what: a certificate is obtained";
        ok !-e $server->cache_file('acme_account+key'), "$what: no other key is made";
        ok handshake(port => $server->https, sni => $name, ca => $pebble->root)->{ok},
            "$what: and serves";
        # A key that is known gets its account back.
        my ($count) = $pebble->log =~ /.*There are now (\d+) accounts in memory/s;
        is $count, $accounts, "$what: it is the account of that key";
        ok $server->stop, "$what: httpd stops";
    }
};

subtest 'proxy' => sub {
    my $name = 'proxied.example.test';
    my $pebble = Autocert::Pebble->new->start;
    my $proxy = Autocert::Relay->new(connect => 1);
    my $server = new_server($pebble, config => head('proxy=http://127.0.0.1:' . $proxy->port)
        . vhosts($name));
    ok $server->start, 'httpd starts' or return;
    ok $server->wait_for_log(qr/AC0130: /, 30), 'without its proxy the CA is out of reach';
    unlike $pebble->log, qr{(?:GET|HEAD|POST) /}, 'there is no way around it';
    $proxy->start;
    ok all_stored($server, OBTAIN_SECONDS, $name), 'with it a certificate is obtained';
    my $port = $pebble->port;
    like $proxy->log, qr/^CONNECT localhost:$port$/m, 'the proxy was asked for the CA';
    unlike $proxy->log, qr/^(?!CONNECT localhost:$port$)/m, 'and for nothing else';
    ok $server->stop, 'httpd stops';
    $proxy->stop;
};

subtest 'User-Agent' => sub {
    my $pebble = Autocert::Pebble->new;
    my $ca = Autocert::SickCA->new($pebble, '503 Busy');
    my $server = new_server($pebble, config => head() . vhosts('agent.example.test'));
    ok $server->start, 'httpd starts' or return;
    my $request = wait_until(30, sub { $ca->request });
    like $request // '', qr{\AGET /dir HTTP/1\.1\r\n}, 'the directory is asked for';
    like $request // '', qr{^User-Agent: .*\bmod_autocert/\d+\.\d+}mi,
        'RFC 8555 6.1: with a User-Agent that says who asks';
    ok $server->stop, 'httpd stops';
    $ca->stop;
};

subtest 'a newer CA' => sub {
    my @names = map { "new$_.example.test" } 1 .. 6;
    my $pebble = Autocert::Pebble->new(new => 1, env => { PEBBLE_AUTHZREUSE => 100 },
        config => { retryAfter => { authz => 1, order => 1 } })->start;
    my $server = new_server($pebble, config => head() . vhosts(@names));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names),
        'X-20: obtained with Retry-After everywhere and no Location at finalize' or return;
    my $root = $pebble->root;
    is scalar(grep { handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @names),
        @names, 'all verify';
    is $pebble->orders, @names, 'one order for each name';
    is count_events($server, 'AC0120'), 0, 'nothing failed';
    # Half of the answers have a date, half a number of seconds; both are one second here.
    my @took = map { $_->{text} =~ /in (\d+\.\d+) s/ ? $1 : 0 } events($server, 'AC0110');
    my @early = grep { $_ < 0.5 } @took;
    is "@early", '', 'Retry-After is kept to';

    $server->stop;
    unlink $server->cache_file($names[0]) or die "unlink: $!\n";
    my $mark = $server->mark;
    ok $server->start, 'a lost file';
    my $again = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0110', $mark))[0] });
    like $again && $again->{text}, qr/^obtained from localhost:\d+ in /,
        'is obtained anew without a challenge: the authorization is valid already';
    is count_events($server, 'AC0224', $mark), 0, 'and none was asked for';
    ok $server->stop, 'httpd stops';
};

done_testing;
