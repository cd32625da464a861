# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Good configurations pass "httpd -t" without a word: as nobody, without a cache
# directory, without network and without writing anything. And once -t passes, the
# server starts, with the same meaning wherever in the vhost a line stands.

use strict;
use warnings;
use utf8;

use Apache::Test qw(-withtestmore);
use File::Find ();

use Autocert::Client qw(https_get http_get make_ca issue_pair);
use Autocert::Configtest qw(vhost);
use Autocert::Server;
use Autocert::Util qw(free_ports run_program spit wait_until);

use constant SERVE_SECONDS => 30;

my $judge = Autocert::Configtest->new(name => 'judge');
my $root = $judge->server->root;
my ($uid, $gid) = $> == 0 ? (getpwnam $judge->server->user)[2, 3] : ($>, $) + 0);
# The server's user may make the cache here; nobody else may write.
chown $uid, $gid, "$root/state" or die "chown: $!\n";

sub bytes
{
    my ($text) = @_;
    utf8::encode($text);
    return $text;
}

# All that is below a directory, with what would change if something were written.
sub listing
{
    my ($dir) = @_;
    my %found;
    File::Find::find({ no_chdir => 1, wanted => sub {
        my @stat = lstat $_;
        $found{$_} = join ' ', @stat[2, 4, 5, 7, 9, 10];
    } }, $dir);
    return \%found;
}

# --- Good lines ---

spit("$root/account.pem", "no key at all\n", 0000);
spit("$root/eab.txt", "no key id at all\n", 0000);
spit("$root/ca.pem", "no certificate at all\n");
my $managed = vhost('AutocertDomain www.example.org');
my @good = (
    ['one host', $managed],
    ['a host, a trailing dot, upper case', vhost('AutocertDomain WWW.Example.ORG. a.example.org')],
    ['no names, a ServerName', vhost('ServerName www.example.org', 'AutocertDomain')],
    ['no names, a ServerName below with a port', vhost('AutocertDomain', 'ServerName www.example.org:443')],
    ['no names, only a ServerAlias', vhost('AutocertDomain', 'ServerAlias a.example.org')],
    ['U-labels (GC-05, GC-06, HW-01)', vhost('AutocertDomain éé.com bücher.example')],
    ['a vhost for several addresses', "<VirtualHost 192.0.2.1:443 [2001:db8::1]:8443>\n"
        . "AutocertDomain www.example.org\n</VirtualHost>\n"],
    ['a name listed twice', vhost('AutocertDomain a.example.org', 'AutocertDomain A.example.org')],
    ['one name in two vhosts with the same settings',
        vhost('AutocertDomain www.example.org', 'AutocertKeyTypes p384', 'AutocertRenewBefore 10d')
        . "<VirtualHost 192.0.2.1:8443>\nAutocertDomain www.example.org\nAutocertKeyTypes secp384r1\n"
        . "AutocertRenewBefore 240h\n</VirtualHost>\n"],
    ['one name in two vhosts, a default written out in one',
        vhost('AutocertDomain www.example.org')
        . "<VirtualHost 192.0.2.1:8443>\nAutocertDomain www.example.org\n"
        . "AutocertChallenges tls-alpn-01 http-01\nAutocertKeyTypes p256\n</VirtualHost>\n"],
    ['a test name under the public CA', vhost('AutocertDomain www.example.test')],
    ['a special-use name under a private CA',
        "AutocertCA https://ca.example.org/dir\n" . vhost('AutocertDomain db.internal')],
    ['AutocertListener', "AutocertListener www.example.org\n"],
    ['AutocertListener on two ports', "AutocertListener a.example.org\nAutocertListener 8443 b.example.org\n"],
    ['AutocertListener beside a vhost for another port',
        "AutocertListener www.example.org\n<VirtualHost *:80>\n</VirtualHost>\n"],
    ['AutocertEngine on in a vhost', vhost('ServerName www.example.org', 'AutocertEngine on')],
    ['AutocertEngine off in a vhost for port 80 with AutocertEngine on in the server',
        "AutocertEngine on\n<VirtualHost *:80>\nServerName a.example.org\nAutocertEngine off\n</VirtualHost>\n"],
    ['a vhost for port 80 that AutocertEngine of the server does not mean',
        "AutocertEngine on\n<VirtualHost *:80>\nServerName a.example.org\n</VirtualHost>\n$managed"],
    (map { ["AutocertCA $_", "AutocertCA $_\n$managed"] } 'letsencrypt', 'LetsEncrypt-Staging',
        'https://ca.example.org:14000/dir', 'letsencrypt test=on', 'letsencrypt test=OFF',
        'letsencrypt orders=20/1h', 'letsencrypt orders=1000000/36500d', 'letsencrypt email=a@example.org',
        'letsencrypt proxy=none', 'letsencrypt proxy=http://proxy:8080',
        'letsencrypt proxy=socks5h://proxy:1080', 'letsencrypt cafile=ca.pem',
        'letsencrypt cafile=@root@/ca.pem account=account.pem',
        'letsencrypt ari=on', 'letsencrypt ARI=Off', 'letsencrypt profile=short-lived_2.0',
        'letsencrypt chain=Root', 'letsencrypt chain="ISRG Root X1"', 'letsencrypt "chain=ISRG Root X1"',
        "letsencrypt chain='ISRG Root X1' test=on  ", 'letsencrypt chain="ISRG Root \"X1\"" ari=off',
        'zerossl eab=eab.txt', 'google eab=@root@/eab.txt', 'google-staging eab=eab.txt', 'actalis eab=eab.txt',
        'zerossl account=account.pem', 'SSLcom eab=eab.txt email=a@example.org',
        (map { "letsencrypt eab=$_" } 'kid:c2VjcmV0', 'kid:c2VjcmV0cw==', 'k/+-_=.;d:c2VjcmV0cw', 'kid:a+b/',
            'kid:a-b_', '"kid:a-b_"')),
    ['several AutocertCA lines', "AutocertCA letsencrypt\nAutocertCA zerossl eab=eab.txt\n$managed"],
    ['eight AutocertCA lines', join('', map { "AutocertCA https://ca.example.org/dir$_\n" } 1 .. 8) . $managed],
    ['a special-use name when one CA is private', "AutocertCA letsencrypt\nAutocertCA https://ca.example.org/dir\n"
        . vhost('AutocertDomain db.internal')],
    (map { ["AutocertAcceptTOS $_", "AutocertAcceptTOS $_\n$managed"] } 'ON', 'https://a/1 https://a/2'),
    (map { ["AutocertMemory $_", "AutocertMemory $_\n$managed"] } '1', '64k', '128M', '1G'),
    (map { ["AutocertKeyTypes $_", "AutocertKeyTypes $_\n$managed"] } 'p256', 'p384', 'rsa2048', 'rsa3072',
        'rsa4096', 'P-256', 'secp256r1'),
    (map { ["AutocertRenewBefore $_", "AutocertRenewBefore $_\n$managed"] } '1%', '90%', '1ms', '30s', '10mi',
        '10min', '12h', '30d', '36500d'),
    (map { ["AutocertChallenges $_", "AutocertChallenges $_\n$managed"] } 'http-01', 'tls-alpn-01',
        'http-01 tls-alpn-01'),
    (map { ["AutocertCSRExtension $_", "AutocertCSRExtension $_\n$managed"] }
        '1.3.6.1.5.5.7.1.24 3003020105', '1.3.6.1.5.5.7.1.24,critical 3003020105'),
    (map { ["AutocertRedirect $_", "AutocertRedirect $_\n$managed"] } 'off', 'temporary', 'Permanent'),
    (map { ["AutocertFallback $_", "AutocertFallback $_\n$managed"] } 'alert', 'Placeholder'),
    (map { ["AutocertDefaultHost $_", "AutocertDefaultHost $_\n$managed"] } 'none', 'WWW.example.org'),
    ['no directive of the module', "<VirtualHost *:443>\nServerName www.example.org\n</VirtualHost>\n"],
);
$judge->accepts($_->[0], bytes($_->[1])) for @good;

subtest 'as nobody, without network and cache, nothing is written' => sub {
    my @as = $> == 0 ? ('setpriv', '--reuid=' . getpwnam 'nobody', '--regid=' . (getpwnam 'nobody')[3],
        '--clear-groups') : ();
    # Where no network namespace can be made, the machine's own has to do.
    my @alone = $> == 0 ? qw(unshare -n) : qw(unshare -rn);
    my ($refused) = run_program([@alone, 'true']);
    @alone = () if $refused;
    my $text = join '', map { $_->[1] } grep { $_->[0] =~ /^(?:one host|AutocertListener on two)/ } @good;
    $text =~ s/\QAutocertListener a.example.org\E\n//;
    $judge->judge("AutocertCA letsencrypt cafile=ca.pem account=account.pem eab=eab.txt\n$text");
    my $before = listing($root);
    for my $as ([], [@alone, @as]) {
        my ($status, $output) = run_program([@$as, @{ $judge->server->command('-t') }],
            env => $judge->server->environment);
        is "$status: $output", "0: Syntax OK\n", (@$as ? "@$as[0, 1]" : 'as ourselves') . ': passes';
        is_deeply listing($root), $before, 'and the ServerRoot is as it was';
    }
    ok !-e $judge->server->cache, 'no cache was made';
};

# What httpd knows the first vhost by, which it tells of vhosts that share an address:
# ServerName and aliases.
sub names_of
{
    my ($text, $other) = @_;
    $other //= vhost('ServerName other.example.org');
    my $said = $judge->judge(bytes($text . $other), arguments => ['-D', 'DUMP_VHOSTS']);
    my ($first) = $said->{output} =~ /^ +port \d+ (namevhost .*?)(?=^ +port)/ms or return [$said->{output}];
    return [$first =~ /\b(?:namevhost|alias) (\S+)/g];
}

is_deeply names_of("AutocertListener www.example.org a.example.org\n", "AutocertListener b.example.org\n"),
    [qw(www.example.org a.example.org)], 'AutocertListener: the first name is the ServerName';
for my $case (['www.example.org', qr/^\*:443 +www\.example\.org /m],
    ['*:8443 www.example.org', qr/^\*:8443 +www\.example\.org /m],
    ['192.0.2.1:8443 www.example.org', qr/^192\.0\.2\.1:8443 +www\.example\.org /m],
    ['[::1]:8443 www.example.org', qr/^\[::1\]:8443 +www\.example\.org /m]) {
    my ($argument, $line) = @$case;
    like $judge->judge("AutocertListener $argument\n", arguments => ['-D', 'DUMP_VHOSTS'])->{output}, $line,
        "AutocertListener $argument: its address and port";
}
is_deeply names_of(vhost('AutocertDomain www.example.org a.example.org')),
    [qw(www.example.org a.example.org)], 'AutocertDomain: the first name is the ServerName';
for my $case (['above', 'ServerName s.example.org', 'AutocertDomain a.example.org s.example.org'],
    ['below', 'AutocertDomain a.example.org', 'ServerName s.example.org']) {
    my ($where, @lines) = @$case;
    is_deeply names_of(vhost(@lines)), [qw(s.example.org a.example.org)],
        "a ServerName $where stays, other names become ServerAlias";
}
is_deeply names_of(vhost('ServerName s.example.org', 'ServerAlias A.example.org *.b.example.org',
        'AutocertDomain a.example.org x.b.example.org')),
    [qw(s.example.org A.example.org x.b.example.org *.b.example.org)],
    'a name that is a ServerAlias is not added again';
is_deeply names_of(vhost('AutocertDomain éÉ.com')), ['xn--9caa.com'],
    'HW-01: a U-label becomes a ServerName that clients can send';

# --- Once -t passes, the server starts ---

my $static = issue_pair(make_ca('static CA'), ['static.example.test']);
spit("$root/static.pem", $static->{pem});
spit("$root/static.key", $static->{key_pem}, 0600);

my @places = qw(plain engine_above engine_below server_name if_module macro engine_on own_pair);
my %port;
@port{@places} = free_ports(scalar @places);
my ($nobody_there) = free_ports(1);
my $server = Autocert::Server->new(name => 'started',
    vars => { %port, modules => Autocert::Server::modules_dir(), nobody => $nobody_there,
        judge => $root }, config => <<'CONF');
LoadModule macro_module @modules@/mod_macro.so
AutocertCA https://127.0.0.1:@nobody@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertFallback placeholder
Listen 127.0.0.1:@plain@
Listen 127.0.0.1:@engine_above@ https
Listen 127.0.0.1:@engine_below@ https
Listen 127.0.0.1:@server_name@
Listen 127.0.0.1:@if_module@
Listen 127.0.0.1:@macro@
Listen 127.0.0.1:@engine_on@ https
Listen 127.0.0.1:@own_pair@
<Macro Site $name $port>
    <VirtualHost 127.0.0.1:$port>
        AutocertDomain $name
    </VirtualHost>
</Macro>
Use Site macro.example.test @macro@
<VirtualHost 127.0.0.1:@plain@>
    ServerName plain.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@engine_above@>
    SSLEngine off
    AutocertDomain above.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@engine_below@>
    AutocertDomain below.example.test
    SSLEngine off
</VirtualHost>
<VirtualHost 127.0.0.1:@server_name@>
    AutocertDomain
    ServerName name.example.test
</VirtualHost>
<IfModule mod_ssl.c>
    <VirtualHost 127.0.0.1:@if_module@>
        <IfModule mod_autocert.c>
            AutocertDomain module.example.test
        </IfModule>
    </VirtualHost>
</IfModule>
<VirtualHost 127.0.0.1:@engine_on@>
    ServerName on.example.test
    AutocertEngine on
</VirtualHost>
<VirtualHost 127.0.0.1:@own_pair@>
    AutocertDomain own.example.test
    AutocertEngine off
    SSLCertificateFile @judge@/static.pem
    SSLCertificateKeyFile @judge@/static.key
</VirtualHost>
CONF
my ($status, $output) = $server->configtest;
is $status, 0, 'a configuration with many kinds of vhosts passes' or diag $output;
ok $server->start, 'and the server starts' or exit 1;
for my $pass ('at first', 'after a graceful restart') {
    for my $place (qw(plain engine_above engine_below)) {
        my $seen = http_get(port => $port{$place}, host => "$place.example.test");
        is $seen->{status}, 200, "$pass: port $place speaks plain HTTP" or diag $seen->{error};
    }
    my %tls = (server_name => 'name', if_module => 'module', macro => 'macro', engine_on => 'on');
    for my $place (sort keys %tls) {
        my $seen = wait_until(SERVE_SECONDS, sub {
            my $try = https_get(port => $port{$place}, sni => "$tls{$place}.example.test");
            return $try->{ok} ? $try : undef;
        }, "an answer on port $place");
        is $seen && $seen->{status}, 503, "$pass: port $place speaks TLS with a placeholder";
    }
    my $seen = https_get(port => $port{own_pair}, sni => 'own.example.test');
    is $seen->{status}, 200, "$pass: AutocertEngine off leaves the vhost alone" or diag $seen->{error};
    is $seen->{subject_cn}, 'static.example.test', "$pass: with its own certificate";
    ok $server->graceful, 'a graceful restart' if $pass eq 'at first';
}
ok $server->stop, 'it stops';

my ($https) = free_ports(1);
my $listener = Autocert::Server->new(name => 'listener', listen => 0, https => $https,
    vars => { nobody => $nobody_there }, config => <<'CONF');
AutocertCA https://127.0.0.1:@nobody@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertFallback placeholder
AutocertListener 127.0.0.1:@https@ listener.example.test
CONF
ok $listener->start, 'AutocertListener alone is enough to start';
is https_get(port => $https, sni => 'listener.example.test')->{status}, 503, 'and to answer';

done_testing;
