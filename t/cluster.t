# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 200
#
# One cache directory: shared by two httpds that want the same new names at once; with the
# answers to challenges given by the one that did not ask; owned by somebody else; and after everything
# was killed in the middle of its work.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events vhosts all_stored missing_names);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit free_ports);

use constant {
    OBTAIN_SECONDS => 90,
    SHARED_NAMES   => 6,
    KILLED_NAMES   => 20,
    WORKERS        => 12,     # orders side by side: so many can be cut
    OLD            => 7200,   # seconds: temporary files of that age belong to nobody
};

sub head
{
    my ($more) = @_;
    return "AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertAcceptTOS on\n"
        . "AutocertCache dir:\@cache\@\n" . ($more // '');
}

sub new_server
{
    my ($pebble, %arg) = @_;
    return Autocert::Server->new(vars => $pebble->vars, loglevel => 'notice autocert:debug', %arg);
}

# What the directory and the one below it hold, apart from locks.
sub files_of
{
    my ($server) = @_;
    my @found;
    for my $dir ($server->cache, $server->cache . '/.autocert') {
        opendir my $handle, $dir or die "$dir: $!\n";
        push @found, map { "$dir/$_" } grep { -f "$dir/$_" } readdir $handle;
        closedir $handle;
    }
    (my $prefix = $server->cache) =~ s{$}{/};
    @found = sort map { s/^\Q$prefix\E//r } @found;
    return @found;
}

sub served
{
    my ($server, $root, @names) = @_;
    return grep { handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @names;
}

subtest 'two servers, the same new names' => sub {
    my @names = map { "both$_.example.test" } 1 .. SHARED_NAMES;
    my $pebble = Autocert::Pebble->new->start;
    my $dir = Autocert::Server::work_dir() . '/shared-names';
    my %common = (cache => $dir, config => head() . vhosts(@names));
    my $a = new_server($pebble, %common, name => 'left',
        http => $pebble->http, https => $pebble->https);
    my $b = new_server($pebble, %common, name => 'right');
    # Both at once: only the locks in the directory keep them apart.
    $_->launch for $a, $b;
    my $root = $pebble->root;
    for my $server ($a, $b) {
        ok wait_until(OBTAIN_SECONDS, sub { served($server, $root, @names) == @names }),
            "X-08: $server->{name} serves all of them";
    }
    is $pebble->orders, @names, 'X-08: exactly one order for each name';
    # The line is written after the certificate is in service.
    my $obtained = sub { count_events($a, 'AC0110') + count_events($b, 'AC0110') };
    wait_until(30, sub { $obtained->() >= SHARED_NAMES });
    is $obtained->(), SHARED_NAMES, 'X-08: each was obtained by one of the two';
    is count_events($a, 'AC0207') + count_events($b, 'AC0207'), 1, 'X-08: with one account';
    for my $name (@names) {
        my ($left, $right) = map { handshake(port => $_->https, sni => $name)->{serial} } $a, $b;
        is $right, $left, "X-08: $name: both have the same certificate";
    }
    ok $_->stop, "$_->{name} stops" for $a, $b;
};

# One asks, the other is what the CA reaches; that one never orders: its CA is nowhere.
for my $case (['GC-12', 'tls-alpn-01'], ['GC-13', 'http-01']) {
    my ($id, $kind) = @$case;
    subtest "$id: $kind answered by the other server" => sub {
        my $name = lc "$id.example.test";
        my $pebble = Autocert::Pebble->new->start;
        my $nowhere = free_ports(1);
        my $config = head("AutocertChallenges $kind\n") . vhosts($name);
        (my $other_config = $config) =~ s{\@pebble\@}{https://localhost:$nowhere/dir};
        my $dir = Autocert::Server::work_dir() . "/shared-$id";
        my $asks = new_server($pebble, name => "asks-$id", cache => $dir, config => $config);
        my $answers = new_server($pebble, name => "answers-$id", cache => $dir,
            http => $pebble->http, https => $pebble->https, config => $other_config);
        ok $answers->start, 'the one that the CA reaches starts' or return;
        # It looks at the names by itself; then nothing is left to trigger there.
        ok $answers->wait_for_log(qr/AC0130: /, 30), 'it gets nothing by itself';
        ok $asks->start, 'the one that asks starts' or return;
        my $root = $pebble->root;
        for my $server ($asks, $answers) {
            ok wait_until(OBTAIN_SECONDS, sub { served($server, $root, $name) }),
                "$server->{name} serves the certificate";
        }
        wait_until(30, sub { count_events($asks, 'AC0110') });
        is count_events($asks, 'AC0110'), 1, 'the one that asked has obtained it';
        like((events($asks, 'AC0110'))[0]{text}, qr/ by \Q$kind\E /, "by $kind");
        is count_events($answers, 'AC0110'), 0, 'the other has not';
        ok $_->stop, "$_->{name} stops" for $asks, $answers;
    };
}

subtest 'a directory of somebody else' => sub {
    my $name = 'owner.example.test';
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, http => $pebble->http, https => $pebble->https,
        config => head() . vhosts($name));
    my $dir = $server->cache;
    mkdir $dir, 0700 or die "$dir: $!\n";
    my ($user, $group) = ($server->user, scalar getgrgid((getpwnam $server->user)[3]));
    if ($> == 0) {
        my ($uid, $gid) = (getpwnam 'daemon')[2, 3];
        chown $uid, $gid, $dir or die "$dir: $!\n";
    }
    else {
        chmod 0500, $dir or die "$dir: $!\n";     # what a user without privilege can take away
    }
    my ($status, $output) = $server->configtest;
    is $status, 0, 'X-06: it does not stop the server';
    like $output, qr/AC0020: .*run "chown -R $user:\S+ \Q$dir\E\b/, 'X-06: -t says what to run';
    ok $server->start, 'X-06: httpd starts' or return;
    like slurp($server->root . '/logs/startup') . $server->log_since(0),
        qr/AC00\d\d: .*run "chown -R $user:\S+ \Q$dir\E\b/, 'X-06: the start says it too';
    ok wait_until(30, sub { count_events($server, 'AC0121') }), 'X-06: nothing can be obtained';
    is $pebble->orders, 0, 'X-06: and nothing is ordered';
    is_deeply [glob "$dir/*"], [], 'X-06: root did not write there either';
    ok $server->stop, 'httpd stops';
    # What the message says to run.
    my ($command) = $output =~ /run "(chown -R [^"]*)"/;
    is system($command), 0, 'X-06: the command of the message' or diag $command;
    chmod 0700, $dir;
    ok $server->start, 'httpd starts';
    ok all_stored($server, OBTAIN_SECONDS, $name), 'X-06: after it all is well';
    is sprintf('%04o', (stat $server->cache_file($name))[2] & 07777), '0600', 'X-06: file mode';
    is scalar getpwuid((stat $server->cache_file($name))[4]), $user, 'X-06: and owner';
    ok $server->stop, 'httpd stops';
};

subtest 'killed in the middle' => sub {
    my @names = map { sprintf 'cut%02d.example.test', $_ } 1 .. KILLED_NAMES;
    my $pebble = Autocert::Pebble->new->start;
    my $server = new_server($pebble, http => $pebble->http, https => $pebble->https,
        config => head() . vhosts(@names));
    $server->expect_crashes;
    # At different moments of the work, each time as a crash of the machine would.
    my $kills = 0;
    for my $stored (1, 7, 13) {
        ok $server->start, "X-05: httpd starts, to be killed after $stored names" or return;
        wait_until(OBTAIN_SECONDS, sub { missing_names($server, @names) <= KILLED_NAMES - $stored });
        $kills++ if missing_names($server, @names);
        $server->kill_all;
        my @half = grep {
            (slurp($server->cache_file($_)) // '') !~ /\A-----BEGIN EC PRIVATE KEY-----\n.*-----END CERTIFICATE-----\n\z/s
        } grep { -e $server->cache_file($_) } @names;
        is "@half", '', 'X-05: no half file of a certificate is there';
    }
    cmp_ok $kills, '>=', 2, 'X-05: it was killed in the middle';
    my $key = slurp($server->cache_file('acme_account+key'));
    my $mark = $server->mark;
    ok $server->start, 'X-05: httpd starts again' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names), 'X-05: all names are obtained';
    is scalar(served($server, $pebble->root, @names)), @names, 'X-05: and served';
    is slurp($server->cache_file('acme_account+key')), $key, 'X-05: with the account that was there';
    my ($accounts) = $pebble->log =~ /.*There are now (\d+) accounts in memory/s;
    is $accounts, 1, 'X-05: which is the only one';
    cmp_ok $pebble->orders, '<=', @names + 3 * WORKERS, 'X-05: only orders that were cut are lost';
    is count_events($server, 'AC0301', $mark), 0, 'X-05: no file had to be given up';
    # What is left of writers that were killed goes when it is old: younger ones may be at work.
    my @temp = grep { /tmp-/ } files_of($server);
    my ($uid, $gid) = (getpwnam $server->user)[2, 3];
    for my $sub ('', '.autocert/') {
        my $file = $server->cache . "/$sub.tmp-autocert-" . 'ab' x 16;
        spit($file, 'half of a secret', 0600);
        chown $uid, $gid, $file if $> == 0;
        push @temp, "$sub.tmp-autocert-" . 'ab' x 16;
    }
    utime time - OLD, time - OLD, map { $server->cache . "/$_" } @temp or die "utime: $!\n";
    my $young = $server->cache . '/.tmp-autocert-' . 'cd' x 16;
    spit($young, 'at work', 0600);
    chown $uid, $gid, $young if $> == 0;
    ok $server->restart, 'X-05: a restart later';
    ok wait_until(30, sub { !grep { -e $server->cache . "/$_" } @temp }),
        'X-05: no temporary file is left';
    ok -e $young, 'X-05: but one that may be in use';
    unlink $young;
    # What the running server writes at this moment goes by itself.
    my @stray;
    wait_until(30, sub {
        @stray = grep { !/^(?:acme_account\+key|\.autocert\/account\+\w+|\.autocert\/budget\+\w+)$/
            && !/^(?:\.autocert\/)?cut\d\d\.example\.test(?:\+state)?$/ } files_of($server);
        return !@stray;
    });
    is "@stray", '', 'X-05: and nothing else: no saved order, no answer to a challenge, no probe';
    ok $server->stop, 'httpd stops';
};

done_testing;
