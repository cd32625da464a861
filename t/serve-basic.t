# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# One name, an empty cache: the certificate arrives without a restart, is served by
# every child, and mod_ssl's variables describe it, on resumed sessions too.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake session_cache);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp);

use constant {
    OBTAIN_SECONDS => 60,
    BURST          => 8,     # connections held open at once to reach a second child
};

my $name = 'a.example.test';
my $pebble = Autocert::Pebble->new;
$pebble->start;

my $server = Autocert::Server->new(
    http => $pebble->http, https => $pebble->https, vars => $pebble->vars, config => <<'CONF');
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain a.example.test
    Header always set X-Serial "%{SSL_SERVER_M_SERIAL}s"
    Header always set X-Name "%{SSL_SERVER_S_DN_CN}s"
    Header always set X-San "%{SSL_SERVER_SAN_DNS_0}s"
</VirtualHost>
CONF

my ($status, $output) = $server->configtest(as => 'nobody');
is $status, 0, 'the configuration is good' or diag $output;
ok !-e $server->cache, '-t makes no cache';
ok $server->start, 'httpd starts with an empty cache' or exit 1;

my $root = $pebble->root;
my %visit = (port => $server->https, sni => $name, ca => $root);

# The first handshakes may end in an alert: nothing is promised before the CA has answered.
my $first = wait_until(OBTAIN_SECONDS, sub {
    my $seen = https_get(%visit);
    return $seen->{ok} ? $seen : undef;
}, "a certificate for $name");
ok $first, 'a certificate that verifies is served without a restart' or exit 1;
is $first->{status}, 200, 'and the page behind it';
is $first->{body}, 'hello from ' . $server->{name} . "\n", 'which is the right one';
is_deeply $first->{names}, [$name], 'it is for that name alone';
cmp_ok $first->{chain_length}, '>=', 2, 'it comes with its chain';
is $first->{key_type}, 'EC', 'its key is of the default type';
is $pebble->certificate_status($first->{serial}), 'Valid', 'it is from this CA';
is $pebble->orders, 1, 'one order was placed';

for my $tls ('1.2', '1.3') {
    my $seen = https_get(%visit, tls => $tls);
    ok $seen->{ok}, "TLS $tls verifies" or diag $seen->{error};
    is $seen->{fingerprint}, $first->{fingerprint}, "TLS $tls shows the same certificate";
}

subtest 'every child serves it' => sub {
    my (%pids, $wrong);
    my $seen_two = wait_until(OBTAIN_SECONDS, sub {
        my @open = map { handshake(%visit, keep => 1) } 1 .. BURST;
        for my $seen (@open) {
            $wrong //= $seen->{error} // 'another certificate'
                if !$seen->{ok} || $seen->{fingerprint} ne $first->{fingerprint};
            next unless $seen->{socket};
            print { $seen->{socket} } "GET / HTTP/1.1\r\nHost: $name\r\nConnection: close\r\n\r\n";
            1 while sysread $seen->{socket}, my $part, 4096;
            $seen->{socket}->close;
        }
        $pids{$_} = 1 for $server->access_log =~ /^pid=(\d+) .* 200 TLS/mg;
        return $wrong || keys %pids >= 2;
    }, 'a second child to answer');
    ok $seen_two, 'at least two children have answered';
    is $wrong, undef, 'always with the managed certificate';
};

subtest 'the cache' => sub {
    my $file = $server->cache_file($name);
    ok -f $file, 'has a file of the name' or return;
    is sprintf('%04o', (stat $file)[2] & 07777), '0600', 'which is private';
    is sprintf('%04o', (stat $server->cache)[2] & 07777), '0700', 'as the directory is';
    is scalar getpwuid((stat $file)[4]), $server->user, 'it belongs to User';
    is scalar getpwuid((stat $server->cache)[4]), $server->user, 'the directory too';
    my $text = slurp($file);
    like $text, qr/\A-----BEGIN EC PRIVATE KEY-----\n/, 'the traditional key comes first';
    my @certificates = $text =~ /(-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n)/sg;
    is_deeply \@certificates, $first->{chain}, 'then the chain, as it is served';
    like $text, qr/-----END CERTIFICATE-----\n\z/, 'and nothing else';
};

# Serial numbers differ in leading zeros between the two ways of writing them.
sub plain_serial
{
    my ($serial) = @_;
    (my $plain = uc($serial // '')) =~ s/^0+//;
    return $plain;
}

sub check_variables
{
    my ($seen, $what) = @_;

    ok $seen->{ok}, "$what: answered" or return diag $seen->{error};
    my $header = $seen->{headers};
    is plain_serial($header->{'x-serial'}), plain_serial($first->{serial}),
        "$what: SSL_SERVER_M_SERIAL";
    is $header->{'x-san'}, $name, "$what: SSL_SERVER_SAN_DNS_0";
    # Newer CAs leave the subject empty, which mod_headers writes so.
    my $cn = $first->{subject_cn} // '(null)';
    $cn = '(null)' if $cn eq '';
    is $header->{'x-name'} || '(null)', $cn, "$what: SSL_SERVER_S_DN_CN";
    return;
}

for my $case (['TLS 1.2 by ticket', '1.2', 1], ['TLS 1.2 by session id', '1.2', 0],
    ['TLS 1.3', '1.3', 1]) {
    my ($what, $tls, $tickets) = @$case;
    my %again = (%visit, tls => $tls, tickets => $tickets, session => session_cache());
    my $full = https_get(%again);
    ok !$full->{reused}, "$what: first a full handshake";
    check_variables($full, "$what, full");
    my $resumed = https_get(%again);
    ok $resumed->{reused}, "$what: then a resumed one";
    is $resumed->{fingerprint}, $first->{fingerprint}, "$what: of the same session";
    check_variables($resumed, "$what, resumed");
}

is $pebble->orders, 1, 'still one order';
ok $server->graceful, 'a graceful restart';
my $after = https_get(%visit);
is $after->{fingerprint}, $first->{fingerprint}, 'changes nothing' or diag $after->{error};
ok $server->stop, 'httpd stops in time';
ok $server->start, 'and starts';
$after = https_get(%visit);
is $after->{fingerprint}, $first->{fingerprint}, 'with the certificate from the cache at once'
    or diag $after->{error};
is $pebble->orders, 1, 'and without a second order';

done_testing;
