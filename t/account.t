# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 300
#
# What is done with an account and its certificates now and then, at both versions of Pebble: another account key,
# also when a process dies over it or another one does it; revocation; external account binding; orders
# that are found again; renewal information, predecessors, profiles and chains. By t/tools/acme_ops.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Digest::SHA ();
use File::Path ();
use JSON::PP ();

use Autocert::Client qw(handshake);
use Autocert::Events qw(count_events vhosts all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(slurp spit build_dir run_program wait_until);

use constant {
    OBTAIN_SECONDS => 90,
    KEYCOMPROMISE  => 1,
    SUPERSEDED     => 4,
    DAY            => 86_400,
};

# Where the server's user can run it.
my $program = Autocert::Server::work_dir() . '/acme_ops';
run_program(['cp', build_dir() . '/tools/acme_ops', $program]);
-x $program or die "build/tools/acme_ops is missing: use make test-tools\n";
my $caches = 0;

# Validates without looking, unless told otherwise: challenges are not this file's matter.
sub new_pebble
{
    my ($new, %arg) = @_;
    my $env = delete $arg{env} // {};
    return Autocert::Pebble->new(new => $new, %arg, env => { PEBBLE_VA_ALWAYS_VALID => 1,
        PEBBLE_VA_NOSLEEP => 1, PEBBLE_WFE_NONCEREJECT => 20, PEBBLE_AUTHZREUSE => 0, %$env })->start;
}

sub new_cache
{
    my $dir = Autocert::Server::work_dir() . '/cache' . ++$caches;
    File::Path::make_path($dir, { mode => 0700 });
    return $dir;
}

# Its exit status, what it printed, and what it said on the way.
sub ops
{
    my ($pebble, $cache, @command) = @_;
    my ($status, $text) = run_program([$program, $cache, $pebble->url, $pebble->cafile, @command]);
    my @lines = split /\n/, $text;
    my ($printed) = grep { !/^\[\d\] / } @lines;
    return ($status, $printed // '', $text);
}

# As it should go: what was printed.
sub ops_ok
{
    my ($what, @command) = @_;
    my ($status, $printed, $text) = ops(@command);
    ok $status == 0, $what or diag $text;
    return $printed;
}

sub account_key { return slurp("$_[0]/acme_account+key") }

sub record_file
{
    my ($cache) = @_;
    my ($file) = grep { !/\+key$/ } glob "$cache/.autocert/account+*";
    return $file;
}

sub pending_file { return record_file($_[0]) . '+key' }

sub accounts
{
    my ($pebble) = @_;
    my $count = () = $pebble->log =~ /There are now \d+ accounts in memory/g;
    return $count;
}

sub chain_of
{
    my ($cache, $name) = @_;
    my @pem = slurp("$cache/$name") =~ /(-----BEGIN CERT.*?-----END CERTIFICATE-----\n)/sg;
    return map { Autocert::Client::cert_info($_) } @pem;
}

# The record of a change that is under way.
sub pending_record
{
    my ($record, $pem) = @_;
    my $old = JSON::PP::decode_json($record);
    return JSON::PP->new->canonical->encode({ directory => $old->{directory}, url => $old->{url},
        old => $old->{thumbprint} }) . "\n$pem";
}

sub test_roll
{
    my ($new) = @_;
    my $pebble = new_pebble($new);
    my $cache = new_cache();
    my $url = ops_ok('an account', $pebble, $cache, 'account');
    my ($key, $record) = (account_key($cache), slurp(record_file($cache)));
    is ops_ok('its key is changed', $pebble, $cache, 'roll-key'), $url, 'it is the same account';
    my $next = account_key($cache);
    isnt $next, $key, 'acme_account+key holds another key';
    like $next, qr/\A-----BEGIN EC PRIVATE KEY-----\n/, 'as Go writes them';
    ok !-e pending_file($cache), 'and nothing is pending';
    my $after = slurp(record_file($cache));
    ops_ok('the CA takes it', $pebble, $cache, 'place', 'roll1.example.test');

    # The CA has made the change, the process died before it could store the key, ...
    spit("$cache/acme_account+key", $key, 0600);
    spit(record_file($cache), $record, 0600);
    spit(pending_file($cache), pending_record($record, $next), 0600);
    ops_ok('died before the key was stored', $pebble, $cache, 'place', 'roll2.example.test');
    is account_key($cache), $next, 'the new key is found to be the right one';
    ok !-e pending_file($cache), 'nothing is pending';

    # ... or the record, ...
    spit(record_file($cache), $record, 0600);
    spit(pending_file($cache), pending_record($record, $next), 0600);
    is ops_ok('died before the record was', $pebble, $cache, 'account'), $url, 'it is the same account';
    is slurp(record_file($cache)), $after, 'the record is as it should be';

    # ... or before the CA was asked.
    my (undef, $text) = run_program(['openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout']);
    my ($other) = $text =~ /(-----BEGIN EC PRIVATE KEY-----.*)/s;
    spit(pending_file($cache), pending_record($after, $other), 0600);
    ops_ok('died before the CA was asked', $pebble, $cache, 'place', 'roll3.example.test');
    is account_key($cache), $next, 'the old key stays';
    ok !-e pending_file($cache), 'nothing is pending';

    spit("$cache/own.pem", $next, 0600);
    my ($status, undef, $said) = ops($pebble, $cache, '-a', "$cache/own.pem", 'roll-key');
    is $status, 1, 'a key of account= is not changed';
    like $said, qr/^operator .*account=/m, 'and why';
    is accounts($pebble), 1, 'all with one account';
    return;
}

sub test_revocation
{
    my ($new) = @_;
    my $pebble = new_pebble($new);
    my $cache = new_cache();
    my %serial;
    for my $name (map { "$_.example.test" } qw(one two other)) {
        ops_ok("$name is obtained", $pebble, $cache, 'obtain', $name);
        $serial{$name} = (chain_of($cache, $name))[0]{serial};
        is $pebble->certificate_status($serial{$name}), 'Valid', 'and valid';
    }
    ops_ok('one is revoked by the account', $pebble, $cache, 'revoke', 'one.example.test', SUPERSEDED);
    is $pebble->certificate_status($serial{'one.example.test'}), 'Revoked', 'the CA says so';
    ops_ok('which can be repeated', $pebble, $cache, 'revoke', 'one.example.test', SUPERSEDED);
    ops_ok('two by its own key', $pebble, $cache, 'revoke-by-key', 'two.example.test');
    is $pebble->certificate_status($serial{'two.example.test'}), 'Revoked', 'the CA says so';
    is $pebble->certificate_status($serial{'other.example.test'}), 'Valid', 'the other one stays';
    return;
}

sub test_binding
{
    my ($new) = @_;
    my $pebble = new_pebble($new, config => { externalAccountBindingRequired => JSON::PP::true(),
        externalAccountMACKeys => { 'kid-1' => 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W' } });
    my $cache = new_cache();
    my ($status, undef, $said) = ops($pebble, $cache, 'account');
    is $status, 1, 'no account without a binding';
    like $said, qr/^operator .*"AutocertCA \.\.\. eab=FILE"/m, 'and what to write';
    ($status, undef, $said) = ops($pebble, $cache, 'account', 'kid-1', 'c2VjcmV0');
    is $status, 1, 'nor with a wrong key';
    like $said, qr/^operator .*kid-1/m, 'and which it was';
    ($status) = ops($pebble, $cache, 'account', 'kid-2', 'c2VjcmV0');
    is $status, 1, 'nor with an unknown one';
    is accounts($pebble), 0, 'none was made';
    my $url = ops_ok('with the right one, padded and with a newline', $pebble, $cache, 'account', 'kid-1',
        "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n");
    is ops_ok('an account that exists needs none', $pebble, $cache, 'account'), $url, 'it is the same';
    unlink record_file($cache) or die "unlink: $!\n";
    is ops_ok('nor does one that could not be noted', $pebble, $cache, 'account'), $url, 'it is the same';
    is accounts($pebble), 1, 'the only one';
    return;
}

sub test_find
{
    my ($new) = @_;
    my $pebble = new_pebble($new);
    my $cache = new_cache();
    my %url = map { $_ => ops_ok("an order for $_", $pebble, $cache, 'place', "$_.example.test") } 1 .. 5;
    is ops_ok("that for $_ is found", $pebble, $cache, 'find', "$_.example.test"), $url{$_}, 'it is the same'
        for 5, 1;
    my ($status, undef, $said) = ops($pebble, $cache, 'find', '6.example.test');
    like $said, qr/no such order/, 'an order that was never placed is not';
    ops_ok('a finished one', $pebble, $cache, 'obtain', '7.example.test');
    (undef, undef, $said) = ops($pebble, $cache, 'find', '7.example.test');
    like $said, qr/no such order/, 'is not found either';
    return;
}

sub test_chain
{
    my ($new) = @_;
    my $pebble = new_pebble($new, env => { PEBBLE_ALTERNATE_ROOTS => 2, PEBBLE_CHAIN_LENGTH => 2 });
    my $cache = new_cache();
    my @roots = map { Autocert::Client::cert_info(slurp($pebble->root($_)))->{subject_cn} } 0 .. 2;
    for my $n (0 .. 2) {
        my $name = "chain$n.example.test";
        my (undef, undef, $said) = ops($pebble, $cache, '-c', $roots[$n], 'obtain', $name);
        is((chain_of($cache, $name))[-1]{issuer_cn}, $roots[$n], "the chain to $roots[$n]") or diag $said;
        unlike $said, qr/AC0231/, 'without a warning';
    }
    my (undef, undef, $said) = ops($pebble, $cache, '-c', 'No Such Root', 'obtain', 'chain3.example.test');
    is((chain_of($cache, 'chain3.example.test'))[-1]{issuer_cn}, $roots[0], 'the default one, if there is none');
    like $said, qr/AC0231: .*No Such Root/, 'with a warning';
    return;
}

# What the older one lacks: it must not matter.
sub test_modern
{
    my ($new) = @_;
    my $pebble = new_pebble($new, $new ? (config => { profiles => {
        long => { description => 'l', validityPeriod => 90 * DAY },
        short => { description => 's', validityPeriod => 6 * DAY } } }) : ());
    my $cache = new_cache();
    my $name = 'modern.example.test';
    my ($status, $printed, $said) = ops($pebble, $cache, '-p', 'short', 'obtain', $name);
    is $status, 0, 'an order with a profile';
    my ($leaf) = chain_of($cache, $name);
    if ($new) {
        is $leaf->{not_after} - $leaf->{not_before} < 7 * DAY, 1, 'has it';
        unlike $said, qr/AC0230/, 'without a warning';
    }
    else {
        like $said, qr/AC0230: .*profile short/, 'is one without at a CA that has none';
    }
    (undef, undef, $said) = ops($pebble, $cache, '-p', 'none', 'place', $name);
    like $said, qr/AC0230: .*profile none/, 'so is one with a profile that it does not have';

    ($status, $printed, $said) = ops($pebble, $cache, '-p', 'long', 'renewal-info', $name);
    if (!$new) {
        is $status, 1, 'no renewal information';
        like $said, qr/has no renewal information/, 'and why';
    }
    else {
        like $printed, qr/^\d+ \d+ 21600 /, 'renewal information';
        $pebble->set_renewal_info($leaf->{pem}, '{"suggestedWindow":{"start":"2026-01-02T00:00:00Z",'
            . '"end":"2026-01-03T00:00:00Z"},"explanationURL":"https://ca.example/why"}');
        is ops_ok('another window', $pebble, $cache, 'renewal-info', $name),
            '1767312000 1767398400 21600 https://ca.example/why', 'as the CA says';
        for my $bad ('junk', '{"suggestedWindow":{"start":"2026-01-03T00:00:00Z","end":"2026-01-02T00:00:00Z"}}') {
            $pebble->set_renewal_info($leaf->{pem}, $bad);
            ($status, undef, $said) = ops($pebble, $cache, 'renewal-info', $name);
            like $said, qr/^operator /m, "garbage is told from a CA that is down: $bad";
        }
    }

    # Twice the same predecessor: the second order goes without it. A correct one is refused with 500 for one
    # of 256 certificates, with the same end.
    my $old = slurp("$cache/$name");
    for my $round (1, 2) {
        spit("$cache/$name", $old, 0600);
        ($status, undef, $said) = ops($pebble, $cache, '-p', 'short', 'obtain', $name, $name);
        is $status, 0, "an order with a predecessor, round $round" or diag $said;
        like $said, qr/AC0233/, 'it was replaced already, and is ordered without' if $new && $round == 2;
        unlike $said, qr/AC0233/, 'none is named to a CA without renewal information' if !$new;
    }
    is accounts($pebble), 1, 'with one account';
    return;
}

# A server at work while somebody changes the key on its cache.
sub test_server
{
    my ($new) = @_;
    my ($first, $second) = ('first.example.test', 'second.example.test');
    my $pebble = Autocert::Pebble->new(new => $new)->start;
    my $server = Autocert::Server->with_ca($pebble, loglevel => 'notice autocert:debug',
        config => <<"CONF" . vhosts($first));
<VirtualHost 127.0.0.1:\@https\@>
    ServerAlias *
    AutocertHostPolicy match second\.example\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, $first), 'a name is obtained' or return;
    my $key = slurp($server->cache_file('acme_account+key'));
    my $record = JSON::PP::decode_json(slurp(record_file($server->cache)));

    # As the server's user: what it writes must stay readable to the server.
    my ($uid, $gid) = (getpwnam $server->user)[2, 3];
    my @as = $> == 0 ? ('setpriv', "--reuid=$uid", "--regid=$gid", '--clear-groups') : ();
    my ($status, $text) = run_program([@as, $program, $server->cache, $pebble->url, $pebble->cafile,
        'roll-key']);
    is $status, 0, 'the account key is changed beside it' or diag $text;
    isnt slurp($server->cache_file('acme_account+key')), $key, "Go's file holds another";
    my $mark = $server->mark;
    my $seen = handshake(port => $server->https, sni => $second, ca => $pebble->root, timeout => 40);
    ok $seen->{ok}, 'a new name is obtained without a restart' or diag $seen->{error} // 'no error';
    ok all_stored($server, OBTAIN_SECONDS, $second), 'and stored';
    cmp_ok count_events($server, 'AC0237', $mark), '>=', 1, 'the new key was noticed';
    is count_events($server, 'AC0120', $mark), 0, 'nothing failed for it';
    is JSON::PP::decode_json(slurp(record_file($server->cache)))->{url}, $record->{url}, 'the same account';
    is accounts($pebble), 1, 'the only one';
    ok $server->stop, 'httpd stops';
    return;
}

my @versions = (['packaged', 0], ['newer', 1]);
for my $case (['another account key', \&test_roll], ['revocation', \&test_revocation],
    ['external account binding', \&test_binding], ['orders found again', \&test_find],
    ['chains', \&test_chain], ['profiles, predecessors, renewal information', \&test_modern],
    ['another key beside a running server', \&test_server]) {
    my ($what, $test) = @$case;
    subtest "$what, the $_->[0] Pebble" => sub { $test->($_->[1]) } for @versions;
}

done_testing;
