# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# AutocertDomain *.example.org: one certificate for every name one label below, by dns-01; an exact name wins;
# neither the base nor deeper names are covered; RSA, redirects, names on demand. What -t refuses.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get http_get make_ca issue_pair cache_value);
use Autocert::Configtest qw(vhost);
use Autocert::DnsCommand;
use Autocert::Events qw(events count_events all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit);

use constant {
    OBTAIN_SECONDS => 60,
    NO_NAME        => 112,     # the alert unrecognized_name
    DAY            => 86_400,
};

my $rsa_only = 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384';

subtest 'listed' => sub {
    my $pebble = Autocert::Pebble->new->start;
    my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
    my $server = Autocert::Server->with_ca($pebble, ca_keys => 'test=off',
        vars => { command => $command->program }, config => <<'CONF');
AutocertDNSCommand @command@ wait=0
AutocertRedirect temporary
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain wild.example.test *.wild.example.test exact.wild.example.test
    Header always set X-Vhost wild
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain *.only.example.test
    AutocertKeyTypes p256 rsa2048
    Header always set X-Vhost only
</VirtualHost>
CONF
    my ($status, $output) = $server->configtest;
    is $status, 0, 'the configuration is good' or diag $output;
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'wild.example.test', 'wild.example.test+wildcard',
        'exact.wild.example.test', 'only.example.test+wildcard'), 'all are obtained, each with its file' or return;
    my %by = map { $_->{name} => $_->{text} } @{ wait_until(OBTAIN_SECONDS, sub {
        my @all = grep { defined $_->{name} } events($server, 'AC0110');
        return @all == 4 ? \@all : undef;
    }) // [] };
    like $by{'*.wild.example.test'}, qr/^obtained from \S+ by dns-01 in /, 'the wildcard by dns-01';
    like $by{'*.only.example.test'}, qr/^obtained from \S+ by dns-01 in /, 'the other one too';
    like $by{'wild.example.test'}, qr/^obtained from \S+ by tls-alpn-01 in /, 'its base by what needs no program';
    like $by{'exact.wild.example.test'}, qr/^obtained from \S+ by tls-alpn-01 in /, 'an exact name as well';
    is $pebble->orders, 4, 'by an order each';
    is count_events($server, 'AC0113') + count_events($server, 'AC0120'), 0,
        'kinds that cannot prove a wildcard were not tried';

    my %visit = (port => $server->https, ca => $pebble->root);
    my %serial;
    for my $name (qw(a.wild.example.test b2.wild.example.test WWW.wild.example.test)) {
        my $seen = https_get(%visit, sni => $name);
        is $seen->{status}, 200, "$name is served" or diag $seen->{error};
        is_deeply $seen->{names}, ['*.wild.example.test'], "$name: by the wildcard's certificate";
        is $seen->{headers}{'x-vhost'}, 'wild', "$name: by its vhost";
        $serial{ $seen->{serial} // 'none' } = 1;
    }
    is scalar(keys %serial), 1, 'by one certificate';
    for my $name (qw(wild.example.test exact.wild.example.test)) {
        my $seen = https_get(%visit, sni => $name);
        is_deeply $seen->{names}, [$name], "$name has its own certificate" or diag $seen->{error};
    }
    for my $name (qw(a.b.wild.example.test a.exact.wild.example.test only.example.test a.b.only.example.test
        xwild.example.test)) {
        my $seen = handshake(%visit, sni => $name);
        is $seen->{alert}, NO_NAME, "$name is not covered" or diag $seen->{error} // 'served';
    }

    my $seen = https_get(%visit, sni => 'r.only.example.test', tls => '1.2', ciphers => $rsa_only, timeout => 40);
    is $seen->{status}, 200, 'a client that needs RSA' or diag $seen->{error};
    is $seen->{key_type}, 'RSA', 'gets it';
    is_deeply $seen->{names}, ['*.only.example.test'], 'as a wildcard too';
    ok -s $server->cache_file('only.example.test+wildcard+rsa'), 'from a file of its own';
    is https_get(%visit, sni => 's.only.example.test')->{key_type}, 'EC', 'others get the usual one';
    is $pebble->orders, 5, 'by one more order';

    $seen = http_get(port => $server->http, host => 'shop.wild.example.test', path => '/x?y=z');
    is $seen->{status}, 302, 'a plain request for a name below is redirected';
    is $seen->{headers}{location}, 'https://shop.wild.example.test/x?y=z', 'to the same name';
    for my $name (qw(a.b.wild.example.test only.example.test)) {
        is http_get(port => $server->http, host => $name)->{status}, 200, "$name is not";
    }

    # Each wildcard had its record set once for each kind of key, and taken away again; but Pebble uses a
    # valid authorization in a hundred again although it is told not to.
    ok wait_until(10, sub { !$command->values_left && count_events($server, 'AC0110') == 5 }),
        'no record is left';
    my $proven = grep { $_->{text} =~ / by dns-01 in / } events($server, 'AC0110');
    cmp_ok $proven, '>=', 2, 'both wildcards needed it';
    is scalar($command->runs('present')), $proven, 'the program ran for wildcards only';
    is scalar($command->runs('cleanup')), $proven, 'and once more to clean up';
    is_deeply [sort keys %{ { map { $_->{argv}[-2] => 1 } $command->runs } }],
        ['_acme-challenge.only.example.test.', '_acme-challenge.wild.example.test.'],
        'the records are those of the names without "*."';

    # While an exact name has none of its own, that of the wildcard stands in.
    ok $server->stop, 'httpd stops';
    $pebble->stop;
    unlink $server->cache_file('exact.wild.example.test') or die "unlink: $!\n";
    ok $server->start, 'httpd starts with the CA down' or return;
    $seen = handshake(%visit, sni => 'exact.wild.example.test');
    is_deeply $seen->{names}, ['*.wild.example.test'], 'an exact name without its own gets the wildcard\'s'
        or diag $seen->{error};
    ok $server->stop, 'httpd stops';
    $pebble->stop_all;
};

# The base and the wildcard need two values at one record, at the same time.
for my $new (0, 1) {
    subtest(($new ? 'newer' : 'packaged') . ' Pebble: base and wildcard by DNS only' => sub {
        my $pebble = Autocert::Pebble->new(new => $new)->start;
        my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
        my $server = Autocert::Server->with_ca($pebble, vars => { command => $command->program,
            resolver => '127.0.0.1:' . $pebble->dns_port }, config => <<'CONF');
AutocertDNSCommand @command@ wait=10s
AutocertDNSResolver @resolver@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain both.example.test *.both.example.test
    AutocertChallenges dns-01
</VirtualHost>
CONF
        ok $server->start, 'httpd starts' or return;
        ok all_stored($server, OBTAIN_SECONDS, 'both.example.test', 'both.example.test+wildcard'),
            'both are obtained' or return;
        my %visit = (port => $server->https, ca => $pebble->root);
        is_deeply handshake(%visit, sni => 'both.example.test')->{names}, ['both.example.test'], 'the base';
        is_deeply handshake(%visit, sni => 'x.both.example.test')->{names}, ['*.both.example.test'], 'and below';
        ok wait_until(10, sub { !$command->values_left }), 'no record is left';
        my %value = map { $_->{argv}[-1] => $_->{env}{AUTOCERT_NAME} } $command->runs('present');
        is_deeply [sort values %value], ['*.both.example.test', 'both.example.test'],
            'each set its own value, and the program was told for which';
        is count_events($server, 'AC0253'), 2, 'each was seen before the CA was asked';
        is count_events($server, 'AC0250'), 4, 'the log tells of four runs';
        is count_events($server, 'AC0120') + count_events($server, 'AC0254'), 0, 'nothing failed';
        ok $server->stop, 'httpd stops';
        $pebble->stop_all;
    });
}

# Names of the vhost that stand nowhere else, and what is tried when no line says what.
subtest 'aliases, and the usual kinds' => sub {
    my ($http, $https) = free_ports(2);
    my $pebble = Autocert::Pebble->new(http => $http, https => $https)->start;
    my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
    # It listens where the CA does not look.
    my $server = Autocert::Server->with_ca($pebble, http => scalar free_ports(1), https => scalar free_ports(1),
        vars => { command => $command->program }, config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    ServerName alias.example.test
    ServerAlias *.alias.example.test
    AutocertDomain
    AutocertDNSCommand @command@ wait=0
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'alias.example.test', 'alias.example.test+wildcard'),
        'ServerName and an alias that is a wildcard are obtained' or return;
    my @failed = wait_until(OBTAIN_SECONDS, sub { count_events($server, 'AC0110') == 2 })
        ? map { "$_->{name}: " . ($_->{text} =~ s/ .*//r) } events($server, 'AC0113') : ();
    is_deeply \@failed, ['alias.example.test: tls-alpn-01', 'alias.example.test: http-01'],
        'dns-01 comes last, and is all that is tried for a wildcard';
    is scalar(grep { $_->{text} =~ /^obtained from \S+ by dns-01 in / } events($server, 'AC0110')), 2, 'by dns-01';
    ok $server->stop, 'httpd stops';
    $pebble->stop_all;
};

subtest 'on demand' => sub {
    my $pebble = Autocert::Pebble->new->start;
    my $old_ca = make_ca('a CA by hand');
    my $old_root = spit(Autocert::Server::work_dir() . '/old-ca.pem', $old_ca->{pem});
    my $server = Autocert::Server->with_ca($pebble, config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match ([a-z]{1,9}\.)?[a-z]{1,9}\.(covered|other)\.example\.test
</VirtualHost>
CONF
    $server->cache_put('covered.example.test+wildcard', cache_value(issue_pair($old_ca, ['*.covered.example.test'])));
    # One of its own, obtained before there was a wildcard, and due.
    $server->cache_put('old.covered.example.test', cache_value(issue_pair($old_ca, ['old.covered.example.test'],
        not_before => -80 * DAY, not_after => 10 * DAY)));
    # The wildcard above this one has expired.
    $server->cache_put('other.example.test+wildcard', cache_value(issue_pair($old_ca, ['*.other.example.test'],
        not_before => -80 * DAY, not_after => -DAY)));
    ok $server->start, 'httpd starts with the certificate of a wildcard' or return;
    my %visit = (port => $server->https);
    for my $name (qw(one.covered.example.test two.covered.example.test)) {
        my $seen = https_get(%visit, sni => $name, ca => $old_root);
        is $seen->{status}, 200, "$name is served" or diag $seen->{error};
        is_deeply $seen->{names}, ['*.covered.example.test'], "$name: by that";
    }
    my $root = $pebble->root;
    for my $name (qw(three.other.example.test a.b.covered.example.test)) {
        my $seen = https_get(%visit, sni => $name, ca => $root, timeout => 40);
        is_deeply $seen->{names}, [$name], "$name is not covered: it is obtained" or diag $seen->{error};
    }
    ok wait_until(OBTAIN_SECONDS, sub { count_events($server, 'AC0136') }), 'one that was due is not renewed';
    is_deeply [map { $_->{name} } events($server, 'AC0136')], ['old.covered.example.test'], 'which the log tells';
    is_deeply handshake(%visit, sni => 'old.covered.example.test')->{names}, ['old.covered.example.test'],
        'it is served while it is valid';
    is $pebble->orders, 2, 'and nothing was ordered for the others';
    ok !-e $server->cache_file('one.covered.example.test'), 'so they have no file';
    ok $server->stop, 'httpd stops';
    $pebble->stop_all;
};

subtest 'what -t refuses' => sub {
    my $judge = Autocert::Configtest->new;
    my $root = $judge->server->root;
    spit("$root/program", "#!/bin/sh\n", 0755);
    spit("$root/text", "no program\n", 0644);
    spit("$root/secret", "secret\n", 0600);
    spit("$root/open", "secret\n", 0644);
    my $command = "AutocertDNSCommand $root/program";
    $judge->accepts('a wildcard with a DNS command', vhost('AutocertDomain *.example.org example.org', $command));
    $judge->accepts('with all its settings', vhost('AutocertDomain *.example.org',
        "$command zone=example.org secret=secret wait=5mi timeout=30s"));
    $judge->accepts('a command for all vhosts', "$command\nAutocertDNSResolver 192.0.2.53 [2001:db8::53]:5353\n"
        . vhost('AutocertDomain *.example.org', 'AutocertChallenges dns-01'));
    $judge->accepts('dns-persist-01 needs none', vhost('AutocertDomain *.example.org',
        'AutocertChallenges dns-persist-01'));
    my $needs_dns = 'AutocertDomain: "*.example.org" is a wildcard, which needs a DNS challenge: write '
        . '"AutocertDNSCommand PROGRAM" and "dns-01" in AutocertChallenges, or the host names one by one';
    $judge->fails_check('a wildcard without a DNS challenge', vhost('>>AutocertDomain *.example.org'), $needs_dns);
    $judge->fails_check('a wildcard with other challenges than the command is for',
        vhost('>>AutocertDomain *.example.org', $command, 'AutocertChallenges http-01 tls-alpn-01'), $needs_dns);
    $judge->fails_check('dns-01 without a command',
        vhost('AutocertDomain www.example.org', '>>AutocertChallenges http-01 dns-01'),
        'AutocertChallenges: dns-01 needs a program that sets records: write "AutocertDNSCommand PROGRAM"');
    $judge->fails_check('an address with DNS challenges only',
        vhost('>>AutocertDomain 8.8.8.8', 'AutocertChallenges dns-01', $command),
        'AutocertDomain: "8.8.8.8" is an address, which no DNS challenge proves: write "http-01" or '
        . '"tls-alpn-01" in AutocertChallenges');
    $judge->fails_check('a wildcard below a special-use suffix', vhost('>>AutocertDomain *.shop.internal', $command),
        'AutocertDomain: "*.shop.internal" is under "internal", for which no public CA issues: write a public '
        . 'name, or name a private CA with AutocertCA');

    $judge->refuses_lines('AutocertDNSCommand',
        ['', 'needs a program, for example "AutocertDNSCommand /usr/local/bin/dns-record"'],
        ['dns-record x', '"dns-record" is no absolute path, and no shell looks for the program: write for '
            . 'example "/usr/local/bin/dns-record"'],
        ['@root@/missing', '@root@/missing does not exist: write the path of a program'],
        ['@root@/text', '@root@/text is not a program: run "chmod 755 @root@/text" if it should be one'],
        ['@root@/conf', '@root@/conf is not a program: run "chmod 755 @root@/conf" if it should be one'],
        ['@root@/program secret=missing', '@root@/missing does not exist: write the path of '
            . 'the file that is given to the program on its standard input'],
        ['@root@/program secret=open', '@root@/open is a secret that others can read: run "chmod 600 '
            . '@root@/open"'],
        ['@root@/program wait=2h', '"wait=2h" is longer than a CA keeps an order: write 1h or less'],
        ['@root@/program wait=1m', '"1m" could be minutes or months: minutes are "mi", write "1mi"'],
        ['@root@/program timeout=11mi', '"timeout=11mi" is out of range: write up to 10mi'],
        ['@root@/program timeout=0', '"timeout=0" is out of range: write up to 10mi']);
    my $differs = 'it stands in two vhosts with different AutocertChallenges, AutocertDNSCommand, AutocertKeyTypes, '
        . 'AutocertCSRExtension, AutocertRenewBefore or AutocertRetire: write the same in both, or name it in one only';
    my $twice = sub {
        my ($first, $second) = @_;
        return vhost('AutocertDomain *.example.org', "$command $first")
            . vhost('>>AutocertDomain *.example.org', "$command $second");
    };
    for my $case (['x', 'y'], ['x', ''], ['', 'wait=1s'], ['', 'timeout=1s'], ['', 'secret=secret']) {
        $judge->fails_check("a wildcard in two vhosts, with \"$case->[0]\" and \"$case->[1]\"", $twice->(@$case), $differs,
            name => '*.example.org');
    }
    $judge->accepts('with the same command', $twice->('x secret=secret', 'secret=secret x') =~ s/>>//r);

    my $example = 'write the address of a DNS server, for example "192.0.2.53" or "[2001:db8::53]:5353"';
    $judge->refuses_lines('AutocertDNSResolver',
        ['', 'needs the address of a DNS server, for example "AutocertDNSResolver 192.0.2.53"']);
    for my $server ('dns.example.org', '192.0.2.53:', '192.0.2.53:99999', '[2001:db8::53', '192.0.2.256') {
        $judge->refuses("AutocertDNSResolver $server", ">>AutocertDNSResolver $server\n",
            qr/AutocertDNSResolver: "\Q$server\E" .*: \Q$example\E/);
    }
};

done_testing;
